"""The beam search itself, on tensors: no model in it, and one read by the host a step.

Candidates, finished hypotheses and the stopping rule are those of transformers' ``early_stopping=False``.

B users of a batch, W beams, C children of a user's beams side by side, X candidates kept (2 W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmrec.decode.device_trie import Children, DeviceTrie, children, needed
from llmrec.decode.top_k import best, in_order

if TYPE_CHECKING:
    from llmrec.decode.rule import Rule
    from llmrec.decode.scoring import Follow


@dataclass(frozen=True, eq=False)
class Beams:
    """Where the search of a batch of users stands.

    Attributes:
        node_BW, score_BW: running beams, best first; ``trie.none`` and -inf where there is none.
        slot_BW: what the model gave for the last asked prefix of each beam.
        leaf_BW, final_BW: finished answers, best first; -1 and -inf where there is none.
        lost_B: best final score that anything dropped so far could have reached.
    """

    node_BW: Tensor
    score_BW: Tensor
    slot_BW: Tensor
    leaf_BW: Tensor
    final_BW: Tensor
    lost_B: Tensor

    @classmethod
    def at_root(cls, trie: DeviceTrie, n_users: int, beams: int) -> Beams:
        """One beam a user, before the first token.

        Args:
            trie: the catalogue.
            n_users: B.
            beams: W.
        """
        node_BW = trie.fan_M.new_full((n_users, beams), trie.none)
        nothing_BW = torch.full(
            node_BW.shape, -torch.inf, dtype=torch.float64, device=node_BW.device
        )
        first_BW = (torch.arange(beams, device=node_BW.device) == 0).expand_as(node_BW)
        return cls(
            node_BW=node_BW.masked_fill(first_BW, 0),
            score_BW=nothing_BW.masked_fill(first_BW, 0.0),
            slot_BW=torch.zeros_like(node_BW),
            leaf_BW=torch.full_like(node_BW, -1),
            final_BW=nothing_BW,
            lost_B=nothing_BW[:, 0],
        )

    def certified(self, k: int, margin: float) -> Tensor:
        """Users for whom nothing that was dropped can belong to the best ``k``.

        Args:
            k: length of the lists.
            margin: by which the last of a list has to beat what was dropped.
        """
        return self.lost_B.isneginf() | (self.final_BW[:, k - 1] >= self.lost_B + margin)


def search(
    trie: DeviceTrie, rule: Rule, follow: Follow, n_users: int, beams: int
) -> tuple[Beams, int]:
    """Search until no beam runs.

    Args:
        trie: the catalogue.
        rule: the scoring rule.
        follow: gives the log-probabilities of what may follow; see ``Continuations``.
        n_users: B.
        beams: W.

    Returns:
        The end of the search, and the number of steps that ran the model.
    """
    state, forwards = Beams.at_root(trie, n_users, beams), 0
    while True:
        need_B3 = needed(trie, state.node_BW)
        running = int(need_B3[:, 2].max(initial=0))
        if not running:
            return state, forwards
        forwards += bool(need_B3[:, 0].any())
        node_BW, slot_BW = state.node_BW[:, :running], state.slot_BW[:, :running]
        kids = children(trie, node_BW, max(2 * beams, int(need_B3[:, 1].max())))
        logp_BC, slot_BW = follow(node_BW, slot_BW, need_B3[:, 0], kids)
        state = advance(trie, rule, replace(state, slot_BW=slot_BW), kids, logp_BC)


def advance(trie: DeviceTrie, rule: Rule, state: Beams, kids: Children, logp_BC: Tensor) -> Beams:
    """Extend every running beam by one token, keep the best and close users who are done.

    Args:
        trie: the catalogue.
        rule: the scoring rule.
        state: before the step, with the slots of after it.
        kids: children of the running beams.
        logp_BC: log-probability of the last token of each child.
    """
    beams = state.node_BW.shape[1]
    if trie.weight_M is not None:
        logp_BC = logp_BC * trie.weight_M[kids.node_BC]
    score_BC = state.score_BW.gather(1, kids.beam_BC) + logp_BC
    score_BC = torch.where(kids.node_BC == trie.none, -torch.inf, score_BC)
    # twice the beams, as transformers has it: even if W candidates end here, W others go on
    by_BC = rule.final(score_BC, kids.node_BC, trie) if rule.prune == "score" else score_BC
    kept_BX = best(by_BC, trie.first_leaf_M[kids.node_BC], 2 * beams)
    node_BX, score_BX = kids.node_BC.gather(1, kept_BX), score_BC.gather(1, kept_BX)
    leaf_BX = trie.leaf_M[node_BX]
    ended_BX = leaf_BX >= 0
    # transformers drops an ended candidate that is not among the best W
    finish_BX = ended_BX & (torch.arange(2 * beams, device=kept_BX.device) < beams)
    run_BX = (node_BX != trie.none) & ~ended_BX
    rank_BX = run_BX.cumsum(1) - 1
    run_BX = run_BX & (rank_BX < beams)
    # a list is certified if it beats the best answer that anything dropped could have led to
    bound_BC = rule.bound(score_BC, kids.node_BC, trie)
    bound_BC = bound_BC.scatter(
        1, kept_BX, torch.where(finish_BX | run_BX, -torch.inf, bound_BC.gather(1, kept_BX))
    )
    lost_B = torch.maximum(state.lost_B, bound_BC.amax(1))
    # the unfinished candidates become the running beams, in order; the last column is thrown away
    place_BX = torch.where(run_BX, rank_BX, beams)
    slot_BX = state.slot_BW.gather(1, kids.beam_BC.gather(1, kept_BX))

    def running(value_BX: Tensor, empty: float) -> Tensor:
        empty_BW = value_BX.new_full((len(value_BX), beams + 1), empty)
        return empty_BW.scatter(1, place_BX, value_BX)[:, :beams]

    node_BW, score_BW = running(node_BX, trie.none), running(score_BX, -torch.inf)
    final_BX = rule.final(score_BX, node_BX, trie)
    ended = [(torch.where(finish_BX, leaf_BX, -1)[:, :beams], final_BX[:, :beams])]
    if rule.forced_is_free and rule.length_penalty == 0:
        # a beam with one leaf left is that leaf; users with no other beams are done
        sole_BW, none_BW = trie.sole_M[node_BW], node_BW == trie.none
        decided_B1 = ((sole_BW >= 0) | none_BW).all(1, keepdim=True)
        ended.append((torch.where(decided_B1, sole_BW, -1), score_BW))
        node_BW = torch.where(decided_B1, trie.none, node_BW)
        score_BW = torch.where(decided_B1, -torch.inf, score_BW)
    leaf_BW, final_BW = merged(state, ended)
    state = Beams(node_BW, score_BW, running(slot_BX, 0), leaf_BW, final_BW, lost_B)
    return _close(trie, rule, state)


def merged(state: Beams, ended: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The best finished answers with some more among them.

    Args:
        state: holds those so far.
        ended: further answers, -1 for none, with their scores.
    """
    leaf = torch.cat([state.leaf_BW, *(leaf for leaf, _ in ended)], 1)
    final = torch.cat([state.final_BW, *(final for _, final in ended)], 1)
    final = final.masked_fill(leaf < 0, -torch.inf)
    # ties go to the smaller leaf, so that lists do not depend on the order of the search
    order = in_order(final, leaf)[:, : state.leaf_BW.shape[1]]
    return leaf.gather(1, order), final.gather(1, order)


def _close(trie: DeviceTrie, rule: Rule, state: Beams) -> Beams:
    """Stop users whose running beams cannot change the result any more."""
    best_B = rule.final(state.score_BW, state.node_BW, trie).amax(1)
    improvable_B = (state.leaf_BW[:, -1] < 0) | (best_B > state.final_BW[:, -1])
    bound_BW = rule.bound(state.score_BW, state.node_BW, trie)
    given_up_B = torch.where(improvable_B, -torch.inf, bound_BW.amax(1))
    return replace(
        state,
        node_BW=torch.where(improvable_B[:, None], state.node_BW, trie.none),
        lost_B=torch.maximum(state.lost_B, given_up_B),
    )
