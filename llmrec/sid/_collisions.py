"""Titles that quantisation gave the same codes are told apart; titles seen in training come first.

T distinct titles in the order of their hashes, B of them in a group of equal codes, L levels, K codes of a
level.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from bench.errors import ConfigError
from bench.ragged import within
from bench.types import BoolArray, FloatArray, IntArray

EPSILON, NORMALISATIONS, TRIES = 0.003, 50, 20  # of the Sinkhorn repair, as in LC-Rec's code
EQUAL = 1e-9  # shares that differ by less, relative to the larger, count as equal


def groups_of(code_TL: IntArray) -> IntArray:
    """A number for each row that equal rows share, int64 [T]."""
    return np.unique(code_TL, axis=0, return_inverse=True)[1].reshape(-1)


def _members(group_T: IntArray) -> list[IntArray]:
    """The rows of each group, ascending."""
    by_group = np.argsort(group_T, kind="stable")
    return np.split(by_group, np.cumsum(np.bincount(group_T))[:-1])


def with_suffix(code_TL: IntArray, seen_T: BoolArray) -> IntArray:
    """The codes with one more: 0, 1, .. among titles of equal codes, seen ones first, [T, L + 1].

    Args:
        code_TL: codes of the titles in the order of their hashes, which decides within a group.
        seen_T: titles that occur in training.
    """
    group_T = groups_of(code_TL)
    order = np.lexsort((np.arange(len(group_T)), ~seen_T, group_T))
    suffix_T = np.empty_like(group_T)
    suffix_T[order] = within(np.bincount(group_T))
    return np.column_stack([code_TL, suffix_T])


def matched(
    code_TL: IntArray, seen_T: BoolArray, residual_TD: FloatArray, centre_KD: FloatArray
) -> IntArray:
    """The codes with the last level given anew, so that no two titles share all; least total distance.

    Within each group of equal codes before the last level, seen titles are assigned first, and what they
    leave goes to the others.

    Args:
        code_TL: codes of the titles in the order of their hashes.
        seen_T: titles that occur in training.
        residual_TD: what the last level has to describe.
        centre_KD: centroids of the last level.

    Raises:
        ConfigError: a group has more titles than the level has codes.
    """
    code_TL = code_TL.copy()
    group_T = groups_of(code_TL[:, :-1]) if code_TL.shape[1] > 1 else np.zeros(len(code_TL), int)
    largest, n_codes = int(np.bincount(group_T).max()), len(centre_KD)
    if largest > n_codes:
        raise ConfigError(
            f"collisions is 'match', but {largest} titles share all codes before the last level, which has "
            f"{n_codes}; take 'suffix', or more codes or levels"
        )
    for members in _members(group_T):
        free = np.arange(n_codes)
        for rows in (members[seen_T[members]], members[~seen_T[members]]):
            cost = cdist(residual_TD[rows], centre_KD[free], "sqeuclidean")
            row, column = linear_sum_assignment(cost)
            code_TL[rows[row], -1] = free[column]
            free = np.delete(free, column)
    return code_TL


def balanced(
    code_TL: IntArray, seen_T: BoolArray, residual_TD: FloatArray, centre_KD: FloatArray
) -> IntArray:
    """The codes with the last level of colliding titles chosen by Sinkhorn plans, as in LC-Rec.

    In each round every group of equal codes gets a plan that spreads it evenly over the last level's codes,
    and each of its titles the code of its largest share, the nearest where shares are equal. Seen titles are
    settled first; the others then share out what these leave of a prefix. Equal vectors stay together, and
    after 20 rounds others may too. A title's code depends on which titles are in its group.

    Args:
        code_TL: codes of the titles in the order of their hashes.
        seen_T: titles that occur in training.
        residual_TD: what the last level has to describe.
        centre_KD: centroids of the last level.

    Source: the code of Zheng et al. (LC-Rec), ICDE 2024; there all titles are moved together, and rounding
    decides between equal shares.
    """
    code_TL = code_TL.copy()
    nobody_T = np.zeros_like(seen_T)
    for moved_T, settled_T in ((seen_T, nobody_T), (~seen_T, seen_T)):
        for _ in range(TRIES):
            before_T = code_TL[:, -1].copy()
            for rows in _colliding(code_TL, moved_T | settled_T):
                beside_T = settled_T & (code_TL[:, :-1] == code_TL[rows[0], :-1]).all(1)
                free = np.setdiff1d(np.arange(len(centre_KD)), code_TL[beside_T, -1])
                mine = rows[moved_T[rows]]
                if len(free) and len(mine):
                    cost_BK = cdist(residual_TD[mine], centre_KD[free], "sqeuclidean")
                    code_TL[mine, -1] = free[_largest(cost_BK)]
            if (code_TL[:, -1] == before_T).all():  # so would every further round
                break
    return code_TL


def _colliding(code_TL: IntArray, among_T: BoolArray) -> list[IntArray]:
    """The rows of each group of two or more equal codes, ascending."""
    rows = np.flatnonzero(among_T)
    return [rows[group] for group in _members(groups_of(code_TL[rows])) if len(group) > 1]


def _largest(cost_BK: FloatArray) -> IntArray:
    """The code of each row's largest share in the plan of these costs."""
    share_BK = sinkhorn_plan(cost_BK)
    # codes that no other row comes near have equal shares but for rounding, which differs by machine
    tied_BK = share_BK >= share_BK.max(1, keepdims=True) * (1 - EQUAL)
    return np.where(tied_BK, cost_BK, np.inf).argmin(1)


def sinkhorn_plan(cost_BK: FloatArray, epsilon: float = EPSILON) -> FloatArray:
    """Shares of the codes in each row, float64 [B, K]: each column sums to B / K, rows to 1 in the limit.

    ``exp(-cost / epsilon)`` of costs scaled to [-1, 1], its rows and columns normalised in turn, 50 times.

    Args:
        cost_BK: distance of each row to each code.
        epsilon: the smaller, the more a row's share is in few codes.
    """
    low, high = cost_BK.min(), cost_BK.max()
    # equal costs are no division by 0, as in the released code
    scaled_BK = (cost_BK.astype(np.float64) - (low + high) / 2) / ((high - low) / 2 + 1e-5)
    share_BK: FloatArray = np.exp(-scaled_BK / epsilon)
    for _ in range(NORMALISATIONS):
        share_BK = share_BK / share_BK.sum(1, keepdims=True)
        share_BK = share_BK / share_BK.sum(0, keepdims=True)
    size, codes = share_BK.shape
    return share_BK * (size / codes)


def shuffled(code_TL: IntArray, seen_T: BoolArray, seed: int) -> IntArray:
    """The rows in random order, seen titles among themselves and the others among themselves.

    Args:
        code_TL: codes of the titles.
        seen_T: titles that occur in training.
        seed: of the order.
    """
    chance, mixed = np.random.default_rng(seed), code_TL.copy()
    for mine in (seen_T, ~seen_T):
        rows = np.flatnonzero(mine)
        mixed[rows] = code_TL[chance.permutation(rows)]
    return mixed
