"""What a beam search loses against the exact lists under the same rule.

Q queries, A audited users, K list length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.types import IntArray
from llmrec.decode.base import Decoder
from llmrec.decode.exact import Exact
from llmrec.decode.rule import Rule, Scores

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

SHARE = 8  # one user in so many is audited at most, which bounds the cost of short exams
BUDGET = 500  # prefixes an audited user may take; a model without opinions would take the whole catalogue


def audit(
    lm: Backbone,
    prompts: Sequence[Prompt],
    trie: Trie,
    leaf_QK: IntArray,
    rule: Rule,
    *,
    users: int,
) -> dict[str, Any]:
    """How near the lists of a beam search come to the exact ones, on evenly spaced users.

    Args:
        lm: the model.
        prompts: of all users.
        trie: the catalogue.
        leaf_QK: their lists.
        rule: the scoring rule of the search; where forced tokens move the sum there is no exact search.
        users: how many to audit, an eighth of all at most.

    Returns:
        ``audited``, users whose exact list is proven; over these ``beam_regret``, the mean share of the
        exact list that the beams missed, and ``beam_agreement``, the share of equal ordered lists.
        Empty where nobody is audited.
    """
    n_users = min(users, -(-len(prompts) // SHARE))
    if not rule.forced_is_free or n_users == 0:
        return {}
    query_A = np.linspace(0, len(prompts) - 1, n_users).round().astype(np.int64)
    options = {name: value for name, value in vars(rule).items() if name != "prune"}
    exact = Exact({**options, "budget": BUDGET, "batch": SHARE})
    truth = exact(lm, [prompts[query] for query in query_A], trie, leaf_QK.shape[1])
    assert truth.certified_Q is not None
    sure_A = truth.certified_Q
    facts: dict[str, Any] = {"audited": int(sure_A.sum())}
    if sure_A.any():
        found_AK, truth_AK = leaf_QK[query_A[sure_A]], truth.leaf_QK[sure_A]
        facts["beam_regret"] = 1 - float(_overlap(found_AK, truth_AK).mean())
        facts["beam_agreement"] = float((found_AK == truth_AK).all(1).mean())
    return facts


def beam_regret(
    lm: Backbone,
    prompts: Sequence[Prompt],
    trie: Trie,
    k: int,
    *,
    beam: Decoder,
    target_Q: IntArray | None = None,
) -> dict[str, Any]:
    """What a beam search loses against the exact list under the same rule.

    Args:
        lm: the model.
        prompts: a sample of users.
        trie: the catalogue.
        k: list length.
        beam: the beam search, by a rule under which forced tokens cost nothing.
        target_Q: the leaf each user went on to, for the difference in NDCG@k.

    Returns:
        ``users``; ``overlap``, mean share of the exact list that the beam found; ``identical``, share
        of equal ordered lists; ``same_first``; ``mass``, mean probability of the exact list minus that
        of the beam's (length penalty 0 only); ``certified`` and ``exact_certified``, shares; with
        ``target_Q`` also ``ndcg``, exact minus beam.
    """
    rule = beam.config.scoring
    assert rule.forced_is_free, "the exact search needs forced tokens that cost nothing"
    options = {name: value for name, value in vars(rule).items() if name != "prune"}
    found, truth = (
        decoder(lm, prompts, trie, k) for decoder in (beam, Exact({**options, "batch": 16}))
    )
    assert found.certified_Q is not None and truth.certified_Q is not None
    shared_Q = _overlap(found.leaf_QK, truth.leaf_QK)
    facts = {
        "users": len(prompts),
        "overlap": float(shared_Q.mean()),
        "identical": float((found.leaf_QK == truth.leaf_QK).all(1).mean()),
        "same_first": float((found.leaf_QK[:, 0] == truth.leaf_QK[:, 0]).mean()),
        "certified": float(found.certified_Q.mean()),
        "exact_certified": float(truth.certified_Q.mean()),
    }
    if rule.length_penalty == 0:
        mass_2 = [np.exp(d.score_QK.astype(np.float64)).sum(1).mean() for d in (truth, found)]
        facts["mass"] = float(mass_2[0] - mass_2[1])
    if target_Q is not None:
        facts["ndcg"] = _ndcg(truth.leaf_QK, target_Q) - _ndcg(found.leaf_QK, target_Q)
    return facts


def _overlap(leaf_QK: IntArray, truth_QK: IntArray) -> Scores:
    real_QK = truth_QK >= 0
    hit_QK = (truth_QK[:, :, None] == leaf_QK[:, None, :]).any(2) & real_QK
    return hit_QK.sum(1) / np.maximum(real_QK.sum(1), 1)


def _ndcg(leaf_QK: IntArray, target_Q: IntArray) -> float:
    gain_K = 1 / np.log2(np.arange(leaf_QK.shape[1]) + 2)
    return float(((leaf_QK == target_Q[:, None]) * gain_K).sum(1).mean())
