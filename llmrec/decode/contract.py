"""The contract of decoders, asked on a small random model and a catalogue of titles.

Q queries, K list length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bench.component import Check
from bench.conformance import toy_data
from bench.types import IntArray
from llmrec.decode.base import Decoded, Decoder
from llmrec.lm import backbone
from llmrec.prompt import Prompt
from llmrec.trie import for_titles

N_QUERIES, SHORT, LONG = 7, 5, 10
FREE_TOKENS = 6  # of an answer that is generated freely; the random model never ends one by itself


class _Sample:
    """A decoder with what it needs; lists are kept by list length."""

    def __init__(self, kind: type[Decoder]) -> None:
        self.kind, self.kept = kind, dict[int, Decoded]()
        self.lm = backbone.load("tiny", seed=0)
        with torch.no_grad():  # sharper predictions, so that neighbours in a list are no near ties
            for parameter in self.lm.model.model.layers.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(4.0)
            self.lm.model.get_input_embeddings().weight.mul_(8.0)
        self.lm.eval()
        self.trie = for_titles(toy_data().train.catalogue.titles, self.lm.tokenizer)
        chance = np.random.default_rng(0)
        ids = [chance.integers(10, 400, chance.integers(4, 16)) for _ in range(N_QUERIES)]
        self.prompts = [Prompt(i.astype(np.int32), np.zeros(len(i), np.int32)) for i in ids]

    def decode(self, k: int, prompts: Sequence[Prompt] | None = None, **options: Any) -> Decoded:
        """Lists of the prompts by a decoder with these options."""
        if "max_new_tokens" in self.kind.Config.model_fields:
            options["max_new_tokens"] = max(FREE_TOKENS, int(self.trie.answer.lengths.max()))
        prompts = self.prompts if prompts is None else prompts
        return self.kind(options)(self.lm, prompts, self.trie, k)

    def lists(self, k: int = SHORT) -> Decoded:
        """Lists of all prompts under the default options."""
        if k not in self.kept:
            self.kept[k] = self.decode(k)
        return self.kept[k]


def questions(kind: type[Decoder]) -> Mapping[str, Check]:
    """What is asked of a decoder; see ``bench.component``."""
    sample = _Sample(kind)
    return {
        f"gives {SHORT} distinct titles a query, or says that it failed": lambda: _valid(sample),
        "has scores that do not rise along a list": lambda: _falling(sample),
        "gives the same lists twice": lambda: _differ(sample, sample.decode(SHORT).leaf_QK),
        "does not depend on the order of the queries": lambda: _order(sample),
        "does not depend on how many queries are asked or decoded at once": lambda: _alone(sample),
        f"begins its lists of {LONG} with those of {SHORT}": lambda: _head(sample),
    }


def _valid(sample: _Sample) -> str | None:
    found = sample.lists()
    if found.leaf_QK.shape != (N_QUERIES, SHORT):
        return f"its lists have shape {found.leaf_QK.shape}"
    if found.failed_Q.all():
        return "it failed on every query"
    for query in np.flatnonzero(~found.failed_Q):
        leaves = found.leaf_QK[query].tolist()
        if len(set(leaves)) < SHORT or not 0 <= min(leaves) <= max(leaves) < sample.trie.n_leaves:
            return f"query {query}: {leaves}"
    return None


def _falling(sample: _Sample) -> str | None:
    found = sample.lists()
    score_QK = found.score_QK[~found.failed_Q]
    rising_Q = (score_QK[:, 1:] > score_QK[:, :-1]).any(1)
    return f"{score_QK[rising_Q][0].tolist()}" if rising_Q.any() else None


def _order(sample: _Sample) -> str | None:
    back = sample.decode(SHORT, sample.prompts[::-1])
    return _differ(sample, back.leaf_QK[::-1])


def _alone(sample: _Sample) -> str | None:
    one_by_one = [sample.decode(SHORT, [prompt]).leaf_QK for prompt in sample.prompts]
    apart = _differ(sample, np.concatenate(one_by_one))
    return apart or _differ(sample, sample.decode(SHORT, batch=3).leaf_QK)


def _head(sample: _Sample) -> str | None:
    return _differ(sample, sample.lists(LONG).leaf_QK[:, :SHORT])


def _differ(sample: _Sample, leaf_QK: IntArray) -> str | None:
    first_QK = sample.lists().leaf_QK
    if np.array_equal(first_QK, leaf_QK):
        return None
    bad = np.flatnonzero((first_QK != leaf_QK).any(1))
    return f"{len(bad)} of {N_QUERIES} lists, query {bad[0]}: {first_QK[bad[0]]} {leaf_QK[bad[0]]}"
