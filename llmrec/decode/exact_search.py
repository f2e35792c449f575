"""The exact search itself, on tensors: no model in it, and one read by the host a step.

B users of a batch, K list length, O open prefixes of a user, X prefixes expanded in a step, C children of
those side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llmrec.decode.device_trie import Children, DeviceTrie, children, needed
from llmrec.decode.top_k import best

if TYPE_CHECKING:
    from llmrec.decode.rule import Rule
    from llmrec.decode.scoring import Follow


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What bounds the search of a user.

    Attributes:
        k: length of the list.
        width: prefixes expanded in a step.
        budget: prefixes expanded in all.
        margin: by which rounding may move a score; a prefix that could still tie stays open.
    """

    k: int
    width: int
    budget: int
    margin: float


@dataclass(frozen=True, eq=False)
class Pool:
    """Where the search of a batch of users stands.

    Attributes:
        node_BO, score_BO: open prefixes, each at a node with a choice, in no order; ``trie.none`` and any
            score where there is none.
        slot_BO: what the model gave for the last asked prefix above each.
        leaf_BK, final_BK: best answers so far; -1 and -inf where there is none.
        expanded_B: prefixes expanded for each user.
    """

    node_BO: Tensor
    score_BO: Tensor
    slot_BO: Tensor
    leaf_BK: Tensor
    final_BK: Tensor
    expanded_B: Tensor


def search(
    trie: DeviceTrie, rule: Rule, follow: Follow, n_users: int, limits: Limits
) -> tuple[Pool, Tensor]:
    """Expand the most promising prefixes until none can enter a list or the budget is spent.

    Args:
        trie: the catalogue.
        rule: the scoring rule.
        follow: gives the log-probabilities of what may follow; see ``Continuations``.
        n_users: B.
        limits: of the search.

    Returns:
        The end of the search, and the users whose list is proven, [B].
    """
    root_B1 = trie.fan_M.new_zeros(n_users, 1)
    score_B1 = root_B1.double()
    nothing_BK = torch.full(
        (n_users, limits.k), -torch.inf, dtype=torch.float64, device=root_B1.device
    )
    pool = Pool(
        root_B1[:, :0],
        score_B1[:, :0],
        root_B1[:, :0],
        torch.full(nothing_BK.shape, -1, device=root_B1.device),
        nothing_BK,
        root_B1[:, 0],
    )
    pool = _sort_in(trie, rule, pool, root_B1, score_B1, root_B1)
    while True:
        pool, chosen_BX, node_BX = choose(trie, rule, pool, limits)
        left_B = (pool.node_BO != trie.none).sum(1)
        need_B4 = needed(trie, node_BX, left_B)
        if not need_B4[:, 2].any():
            return pool, left_B == 0
        kids = children(trie, node_BX, int(need_B4[:, 1].max()))
        score_BX, slot_BX = (x.gather(1, chosen_BX) for x in (pool.score_BO, pool.slot_BO))
        logp_BC, slot_BX = follow(node_BX, slot_BX, need_B4[:, 0], kids)
        pool = _compact(trie, pool, int(need_B4[:, 3].max()))
        if trie.weight_M is not None:
            logp_BC = logp_BC * trie.weight_M[kids.node_BC]
        pool = expand(trie, rule, pool, kids, score_BX.gather(1, kids.beam_BC) + logp_BC, slot_BX)


def choose(trie: DeviceTrie, rule: Rule, pool: Pool, limits: Limits) -> tuple[Pool, Tensor, Tensor]:
    """The next prefixes to expand.

    Args:
        trie: the catalogue.
        rule: the scoring rule.
        pool: where the search stands.
        limits: of the search.

    Returns:
        The pool without them and without what can enter no list; their places in it [B, X]; their nodes
        [B, X], ``trie.none`` where a user has fewer.
    """
    bound_BO = rule.bound(pool.score_BO, pool.node_BO, trie)
    # the margin keeps rounding from closing a prefix whose answers tie with the list's last
    promising_BO = bound_BO >= pool.final_BK[:, -1:] - limits.margin
    node_BO = torch.where(promising_BO, pool.node_BO, trie.none)
    bound_BO = torch.where(node_BO == trie.none, -torch.inf, bound_BO)
    width = min(limits.width, node_BO.shape[1])
    chosen_BX = best(bound_BO, trie.first_leaf_M[node_BO], width)
    node_BX = node_BO.gather(1, chosen_BX)
    left_B1 = limits.budget - pool.expanded_B[:, None]
    taken_BX = torch.arange(width, device=left_B1.device) < left_B1
    node_BO = node_BO.scatter(1, chosen_BX, torch.where(taken_BX, trie.none, node_BX))
    node_BX = torch.where(taken_BX, node_BX, trie.none)
    expanded_B = pool.expanded_B + (node_BX != trie.none).sum(1)
    return replace(pool, node_BO=node_BO, expanded_B=expanded_B), chosen_BX, node_BX


def expand(
    trie: DeviceTrie, rule: Rule, pool: Pool, kids: Children, score_BC: Tensor, slot_BX: Tensor
) -> Pool:
    """Sort the children of the chosen prefixes in: complete answers to the lists, the rest to the open.

    Args:
        trie: the catalogue.
        rule: the scoring rule.
        pool: the prefixes that stay open, and the lists.
        kids: the children.
        score_BC: summed log-probability of each child.
        slot_BX: what the model gave for their prefixes.
    """
    slot_BC = slot_BX.gather(1, kids.beam_BC)
    return _sort_in(trie, rule, pool, kids.node_BC, score_BC, slot_BC)


def _sort_in(
    trie: DeviceTrie, rule: Rule, pool: Pool, node_BC: Tensor, score_BC: Tensor, slot_BC: Tensor
) -> Pool:
    # without a further choice the sum of an answer is known, and its bound is its score
    sole_BC = trie.sole_M[node_BC]
    final_BC = rule.bound(score_BC, node_BC, trie)
    final_BC = torch.where(sole_BC >= 0, final_BC, -torch.inf)
    leaf, final = torch.cat([pool.leaf_BK, sole_BC], 1), torch.cat([pool.final_BK, final_BC], 1)
    kept_BK = best(final, torch.where(leaf < 0, trie.none, leaf), pool.leaf_BK.shape[1])
    open_BC = torch.where(sole_BC < 0, trie.branch_M[node_BC], trie.none)
    return Pool(
        torch.cat([pool.node_BO, open_BC], 1),
        torch.cat([pool.score_BO, score_BC], 1),
        torch.cat([pool.slot_BO, slot_BC], 1),
        leaf.gather(1, kept_BK),
        final.gather(1, kept_BK),
        pool.expanded_B,
    )


def _compact(trie: DeviceTrie, pool: Pool, width: int) -> Pool:
    """The same pool in ``width`` columns, at least the most that any user has open."""
    open_BO = pool.node_BO != trie.none
    place_BO = torch.where(open_BO, open_BO.cumsum(1) - 1, width)

    def packed(value_BO: Tensor, empty: float) -> Tensor:
        empty_BO = value_BO.new_full((len(value_BO), width + 1), empty)
        return empty_BO.scatter(1, place_BO, value_BO)[:, :width]

    return replace(
        pool,
        node_BO=packed(pool.node_BO, trie.none),
        score_BO=packed(pool.score_BO, 0.0),
        slot_BO=packed(pool.slot_BO, 0),
    )
