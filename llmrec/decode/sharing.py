"""Decoding by several ranks: each decodes its share of the prompts, and all get the whole.

Q queries, K list length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import ranks
from llmrec.decode.base import Decoded, Progress

# facts that add up, that hold for the worst query, and that no rank can know of the others' queries
SUMMED = frozenset({"audited", "empty_generations", "repeated_beams", "truncated_generations"})
HIGHEST = frozenset({"decode_steps", "expansions_max"})
UNKNOWN = frozenset({"distinct_titles_said"})
WEIGHED_BY_AUDIT = frozenset({"beam_regret", "beam_agreement"})


def decode_shared(
    decoder: Any, lm: Any, prompts: Sequence[Any], trie: Any, k: int, progress: Progress | None
) -> Decoded:
    """As the decoder itself; with several ranks every one has to call it, with the same prompts.

    Args:
        decoder: the decoder.
        lm: the model.
        prompts: of all queries.
        trie: the catalogue.
        k: length of the lists.
        progress: told of this rank's share.
    """
    part = decoder(lm, ranks.mine(prompts), trie, k, progress=progress)
    return part if ranks.size() == 1 else merged(ranks.everyones(part))


def merged(parts: Sequence[Decoded]) -> Decoded:
    """The whole from the parts of all ranks, dealt out as ``bench.ranks.mine`` does."""
    total = sum(map(len, parts))

    def whole(name: str) -> Any:
        columns = [getattr(part, name) for part in parts]
        if any(column is None for column in columns):
            return None
        made = np.empty((total, *columns[0].shape[1:]), columns[0].dtype)
        for rank, column in enumerate(columns):
            made[rank :: len(parts)] = column
        return made

    names = ("leaf_QK", "score_QK", "certified_Q", "failed_Q")
    return Decoded(**{name: whole(name) for name in names}, facts=_facts(parts))


def _facts(parts: Sequence[Decoded]) -> dict[str, Any]:
    some = [part for part in parts if len(part)] or list(parts[:1])
    names = dict.fromkeys(name for part in some for name in part.facts)
    return {name: _fact(name, some) for name in names if name not in UNKNOWN}


def _fact(name: str, parts: Sequence[Decoded]) -> Any:
    """One fact of all parts: a sum, a maximum, or a mean over the queries it was found on."""
    held = [part for part in parts if name in part.facts]
    values = [part.facts[name] for part in held]
    if name in SUMMED:
        return sum(values)
    if name in HIGHEST:
        return max(values)
    if all(value == values[0] for value in values) or not isinstance(values[0], (int, float)):
        return values[0]
    audit = name in WEIGHED_BY_AUDIT
    weights = [part.facts.get("audited", 0) if audit else len(part) for part in held]
    return float(np.average(values, weights=weights))
