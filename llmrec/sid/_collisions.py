"""Titles that quantisation gave the same codes are told apart; titles seen in training come first.

T distinct titles in the order of their hashes, L levels, K codes of a level.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from bench.errors import ConfigError
from bench.ragged import within
from bench.types import BoolArray, FloatArray, IntArray


def groups_of(code_TL: IntArray) -> IntArray:
    """A number for each row that equal rows share, int64 [T]."""
    return np.unique(code_TL, axis=0, return_inverse=True)[1].reshape(-1)


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
    by_group = np.argsort(group_T, kind="stable")
    for members in np.split(by_group, np.cumsum(np.bincount(group_T))[:-1]):
        free = np.arange(n_codes)
        for rows in (members[seen_T[members]], members[~seen_T[members]]):
            cost = cdist(residual_TD[rows], centre_KD[free], "sqeuclidean")
            row, column = linear_sum_assignment(cost)
            code_TL[rows[row], -1] = free[column]
            free = np.delete(free, column)
    return code_TL


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
