"""The decode doctor: what has to hold before a decoder's lists may be scored.

Constrained search goes wrong in silence: sampling flags of the model's own generation config leak into
it, lists repeat items, or lists change with the seed. Each check says
one sentence; a failed one voids the cell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench.errors import ContractError
from llmrec.decode.base import Decoded, Decoder
from llmrec.decode.generate import own_generation
from llmrec.decode.rule import Rule
from llmrec.decode.scoring import score_all, slack

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

SAMPLE = 16
# values of transformers' GenerationConfig under which a beam search is the plain one
WARPERS: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (None, 1.0),
    "encoder_repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "bad_words_ids": (None,),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "sequence_bias": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1, 1.0),
    "num_beam_groups": (None, 1),
    "diversity_penalty": (None, 0.0),
    "watermarking_config": (None,),
}
SAMPLERS: dict[str, tuple[Any, ...]] = {
    "temperature": (None, 1.0),
    "top_k": (None, 0, 50),  # 50 is transformers' default, idle without sampling
    "top_p": (None, 1.0),
    "min_p": (None,),
    "typical_p": (None, 1.0),
    "epsilon_cutoff": (None, 0.0),
    "eta_cutoff": (None, 0.0),
}


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: short, stable.
        ok: whether it holds.
        sentence: what was found.
    """

    name: str
    ok: bool
    sentence: str


def examine(
    decoder: Decoder,
    lm: Backbone,
    prompts: Sequence[Prompt],
    trie: Trie,
    k: int,
    *,
    sample: int = SAMPLE,
) -> list[Check]:
    """Look a decoder over on real prompts. Decodes ``sample`` users twice and the catalogue once for one.

    Args:
        decoder: as configured for the cell.
        lm: the model it will decode with.
        prompts: of the exam; the first ``sample`` are decoded, all are counted.
        trie: the catalogue.
        k: list length.
        sample: users decoded.
    """
    few, plain = list(prompts[:sample]), _unaudited(decoder)
    first, second = (_seeded(plain, lm, few, trie, k, seed) for seed in (1, 2))
    return [
        *sampling(decoder, lm, trie),
        Check("length rule", bool(decoder.rule), f"lists are ordered by: {decoder.rule}"),
        distinct(first, trie, k),
        same_lists(first, second),
        truncation(prompts, first, trie),
        total_probability(lm, few[:1], trie, tau=getattr(decoder.config, "tau", 1.0)),
    ]


def require(checks: Iterable[Check], *, waived: Collection[str] = ()) -> list[Check]:
    """The checks, if all that are not waived hold.

    Args:
        checks: from ``examine``.
        waived: names that may fail because the cell asks for the defect (``inherit_sampling``).

    Raises:
        ContractError: one sentence per failed check.
    """
    checks = list(checks)
    failed = [check for check in checks if not check.ok and check.name not in waived]
    if failed:
        found = "; ".join(f"{check.name}: {check.sentence}" for check in failed)
        raise ContractError(f"the decode doctor voids this cell ({found})")
    return checks


def waived_by(decoder: Decoder) -> frozenset[str]:
    """Checks that the configuration itself asks to fail."""
    if getattr(decoder.config, "inherit_sampling", False):
        return frozenset({"no sampling", "no warpers", "two seeds", "distinct items"})
    return frozenset()


def sampling(decoder: Decoder, lm: Backbone, trie: Trie) -> list[Check]:
    """Whether sampling or a logits processor would change the scores, be it by the model's own defaults.

    Args:
        decoder: as configured for the cell.
        lm: the model it will decode with.
        trie: the catalogue.
    """
    config = decoder.generation_config(lm, trie)
    if config is None:
        said = "this search never calls generate(), so no generation config acts on it"
        return [Check("no sampling", True, said), Check("no warpers", True, said)]
    with own_generation(lm, inherit=getattr(decoder.config, "inherit_sampling", False)):
        flags = leaks(lm.causal, config)
    sampled = {name: value for name, value in flags.items() if name not in WARPERS}
    warped = {name: value for name, value in flags.items() if name in WARPERS}
    return [
        Check("no sampling", not sampled, _found(sampled, "do_sample is off")),
        Check("no warpers", not warped, _found(warped, "nothing changes the scores")),
    ]


def leaks(model: Any, config: Any) -> dict[str, Any]:
    """Generation flags, with their values, that would change the result of a plain beam search.

    transformers fills whatever ``config`` leaves open from the model's own generation config; what is
    looked at is the outcome of that.

    Args:
        model: a Hugging Face model.
        config: the generation config that ``generate`` would get.
    """
    whole, _ = model._prepare_generation_config(config)
    found: dict[str, Any] = {} if not whole.do_sample else {"do_sample": True}
    allowed = {**WARPERS, **(SAMPLERS if whole.do_sample else {})}
    for name, plain in allowed.items():
        value = getattr(whole, name, None)
        if value not in plain:
            found[name] = value
    return found


def distinct(decoded: Decoded, trie: Trie, k: int) -> Check:
    """Whether every list has as many different valid answers as it can.

    Args:
        decoded: lists of some users.
        trie: the catalogue.
        k: length of the lists that was asked for.
    """
    wanted = min(k, trie.n_leaves)
    inside = (decoded.leaf_QK >= -1).all() and (decoded.leaf_QK < trie.n_leaves).all()
    lists = [row[row >= 0] for row in decoded.leaf_QK[~decoded.failed_Q]]
    repeated = sum(len(np.unique(row)) < len(row) for row in lists)
    short = sum(len(np.unique(row)) < wanted for row in lists)
    shared = int((trie.leaf_items.lengths > 1).sum())
    said = (
        f"{len(lists)} users, {repeated} lists with repeats, {short} with fewer than {wanted} answers; "
        f"{shared} answers stand for several items with one title"
    )
    return Check("distinct items", bool(inside) and repeated == 0 and short == 0, said)


def same_lists(first: Decoded, second: Decoded) -> Check:
    """Whether two global seeds give the same lists.

    Args:
        first: lists decoded under one global seed.
        second: the same users under another.
    """
    differ = int((first.leaf_QK != second.leaf_QK).any(1).sum())
    said = f"two seeds, {differ} of {len(first)} lists differ"
    return Check("two seeds", differ == 0, said)


def truncation(prompts: Sequence[Prompt], decoded: Decoded, trie: Trie) -> Check:
    """What was cut off, in numbers, to be read beside the result; never fails.

    Args:
        prompts: of the users that were decoded.
        decoded: their lists.
        trie: the catalogue.
    """
    cut = sum(prompt.dropped > 0 for prompt in prompts)
    items = sum(prompt.dropped for prompt in prompts)
    unreachable = decoded.facts.get("unreachable_titles", 0)
    unended = decoded.facts.get("truncated_generations", 0)
    said = (
        f"{cut} of {len(prompts)} histories lost {items} of their oldest items; {unreachable} of "
        f"{trie.n_leaves} titles are longer than an answer may be; {unended} generations never ended"
    )
    return Check("truncation", True, said)


def total_probability(
    lm: Backbone, prompts: Sequence[Prompt], trie: Trie, *, tau: float = 1.0
) -> Check:
    """Whether the probabilities of all answers of the catalogue add up to 1 for one user.

    Args:
        lm: the model.
        prompts: the first is looked at.
        trie: the catalogue.
        tau: temperature of the softmax.
    """
    if not prompts:
        return Check("total probability", True, "no user to look at")
    total = float(np.exp(score_all(lm, prompts, trie, Rule(tau=tau))).sum())
    said = f"the {trie.n_leaves} answers of the catalogue have probability {total:.6f} together"
    return Check("total probability", abs(total - 1) <= slack(lm), said)


def _seeded(
    decoder: Decoder, lm: Backbone, prompts: Sequence[Prompt], trie: Trie, k: int, seed: int
) -> Decoded:
    devices = [lm.device] if lm.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        return decoder(lm, prompts, trie, k)


def _unaudited(decoder: Decoder) -> Decoder:
    """The same search without exact lists beside its own."""
    if not getattr(decoder.config, "audit", 0):
        return decoder
    return type(decoder)(decoder.config.replace(audit=0))


def _found(flags: dict[str, Any], nothing: str) -> str:
    if not flags:
        return nothing
    return (
        ", ".join(f"{name}={value}" for name, value in flags.items()) + " would act on the search"
    )
