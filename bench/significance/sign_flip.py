"""Sign flips: how likely a gap is where only a few users, or targets, differ at all.

If two methods are equal, each user's difference is as likely to have the other sign. The p is the share of
all ways to flip signs in which the sum is at least as far from zero as it is. It needs no distribution, and
its least value is 2^(1 - k) where k users differ: five users cannot separate two methods, whatever they show.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bench.significance.clusters import NOTHING
from bench.types import FloatArray, IntArray

FEW = 10  # effective clusters below which t is not trusted
EXACT = 16  # up to here every flip is enumerated
FLIPS = 10_000
ENOUGH = (
    100  # flips at least as far off, after which a pair draws no more (Besag and Clifford, 1991)
)
_CHUNK = 1000


def flip_p(
    total_GM: FloatArray, pairs: Sequence[tuple[int, int]], flips: int = FLIPS
) -> tuple[FloatArray, IntArray]:
    """Two-sided p of each pair of columns, and how many clusters differ in it.

    Up to 16 differing clusters, or where all differ in one direction, p is exact; else it is
    ``(1 + count) / (1 + flips)`` over random flips, the same for all pairs; a pair stops early when it is
    clear that its p is large.

    Args:
        total_GM: sums over the rows of each cluster, not centred.
        pairs: positions of columns.
        flips: random ones.
    """
    p, differing = np.ones(len(pairs)), np.zeros(len(pairs), np.int64)
    waiting = []
    for place, (i, j) in enumerate(pairs):
        apart_G = total_GM[:, i] - total_GM[:, j]
        apart_K = apart_G[np.abs(apart_G) > NOTHING * np.abs(total_GM[:, [i, j]]).max()]
        differing[place] = len(apart_K)
        if len(apart_K) and (np.all(apart_K > 0) or np.all(apart_K < 0)):
            p[place] = 2.0 ** (1 - len(apart_K))
        elif len(apart_K) > EXACT:
            waiting.append(place)
        elif len(apart_K):
            p[place] = _share(_signs(len(apart_K)) @ apart_K, apart_K.sum())
    if waiting:
        p[waiting] = _drawn(total_GM, [pairs[place] for place in waiting], flips)
    return p, differing


@lru_cache(maxsize=EXACT)
def _signs(k: int) -> FloatArray:
    """Every choice of k signs with the first one +, float [2^(k-1), k]; the others mirror these."""
    bits = np.arange(2 ** (k - 1))[:, None] >> np.arange(k)
    return 1.0 - 2.0 * (bits & 1)[:, ::-1]


def _share(sum_R: FloatArray, observed: float) -> float:
    return float(np.mean(np.abs(sum_R) >= abs(observed) * (1 - 1e-9)))


def _drawn(total_GM: FloatArray, pairs: Sequence[tuple[int, int]], flips: int) -> FloatArray:
    used, place = np.unique(np.array(pairs), return_inverse=True)
    first_P, second_P = place.reshape(-1, 2).T
    total_GM = total_GM[:, used]
    total_GM = total_GM[np.ptp(total_GM, axis=1) > 0]  # elsewhere no pair differs
    observed_M = total_GM.sum(axis=0)
    least_P = np.abs(observed_M[first_P] - observed_M[second_P]) * (1 - 1e-9)
    rng = np.random.default_rng(0)
    count_P, drawn_P = np.zeros(len(pairs), np.int64), np.zeros(len(pairs), np.int64)
    for start in range(0, flips, _CHUNK):
        open_P = np.flatnonzero(count_P < ENOUGH)
        if not len(open_P):
            break
        size = (min(_CHUNK, flips - start), len(total_GM))
        sum_RM = (2.0 * rng.integers(0, 2, size, np.int8) - 1.0) @ total_GM
        apart_RP = np.abs(sum_RM[:, first_P[open_P]] - sum_RM[:, second_P[open_P]])
        count_P[open_P] += (apart_RP >= least_P[open_P]).sum(axis=0)
        drawn_P[open_P] += size[0]
    return (1 + count_P) / (1 + drawn_P)
