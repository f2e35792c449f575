"""Ranks that claim no more than the data do: Holm over all pairs, tie groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bench.significance.bootstrap import ALPHA, Draws
from bench.types import FloatArray, IntArray


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of one declared family, in the given order."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, highest = [0.0] * len(p), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[i]))
        adjusted[i] = highest
    return adjusted


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks that claim no more than the data do.

    Attributes:
        first_M, last_M: method m is certainly no better than ``first`` and no worse than ``last``.
        p_MM: Holm-adjusted p of each pair, symmetric, 1 on the diagonal.
    """

    first_M: IntArray
    last_M: IntArray
    p_MM: FloatArray

    def text(self, method: int) -> str:
        """``2`` or ``1-3 (tied)``."""
        first, last = int(self.first_M[method]), int(self.last_M[method])
        return str(first) if first == last else f"{first}-{last} (tied)"


def tie_groups(draws: Draws, alpha: float = ALPHA) -> Ranks:
    """Rank every method by whom it is separated from.

    The family is all pairs of the table. A method's first rank is one plus the number of methods that are
    significantly better (paired bootstrap, Holm over the family), its last rank the number of methods
    less those significantly worse; methods between are tied with it.
    """
    m = len(draws.mean_M)
    pairs = list(combinations(range(m), 2))
    p_MM = np.ones((m, m))
    for (i, j), p in zip(pairs, holm([draws.difference(i, j).p for i, j in pairs]), strict=True):
        p_MM[i, j] = p_MM[j, i] = p
    above_MM = (draws.mean_M[:, None] > draws.mean_M[None, :]) & (p_MM < alpha)
    return Ranks(1 + above_MM.sum(axis=0), m - above_MM.sum(axis=1), p_MM)
