"""The best candidates of many users at once. B users, C candidates end to end, X kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.types import IntArray

Scores = npt.NDArray[np.float64]


def best(user_C: IntArray, score_C: Scores, tie_C: IntArray, n_users: int, width: int) -> IntArray:
    """The ``width`` best candidates of each user, best first, ties to the smaller ``tie_C``.

    Args:
        user_C: owner of each candidate, ascending.
        score_C: higher is better.
        tie_C: decides between equal scores.
        n_users: B.
        width: candidates wanted per user.

    Returns:
        Candidate numbers, -1 where a user has fewer, int64 [B, width].
    """
    count_B = np.bincount(user_C, minlength=n_users)
    start_B = np.cumsum(count_B) - count_B
    if count_B.max(initial=0) > width:  # only what reaches the width-th score needs sorting
        score_BC = np.full((n_users, int(count_B.max())), -np.inf)
        score_BC[user_C, np.arange(len(user_C)) - start_B[user_C]] = score_C
        threshold_B = np.partition(score_BC, -width, axis=1)[:, -width]
        near = np.flatnonzero(score_C >= threshold_B[user_C])
    else:
        near = np.arange(len(user_C))
    order = near[np.lexsort((tie_C[near], -score_C[near], user_C[near]))]
    user = user_C[order]
    rank = np.arange(len(order)) - np.searchsorted(user, user)
    kept_BX = np.full((n_users, width), -1, np.int64)
    inside = rank < width
    kept_BX[user[inside], rank[inside]] = order[inside]
    return kept_BX
