"""Ranks with ties where the data separate no further; Holm's correction over all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.significance.intervals import ALPHA, least_clusters
from bench.types import BoolArray, FloatArray, IntArray


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
    """Bounds of the rank of each method.

    All bounds of a table hold at once with probability 1 - alpha (Mogstad, Romano, Shaikh and Wilhelm, 2024).

    Attributes:
        first_M, last_M: method m is certainly no better than ``first`` and no worse than ``last``.
        p_MM: Holm-adjusted p of each pair, symmetric, 1 on the diagonal.
        few_MM: pairs in which too few titles (or users) differ for any result to be significant.
    """

    first_M: IntArray
    last_M: IntArray
    p_MM: FloatArray
    few_MM: BoolArray

    def text(self, method: int) -> str:
        """``2`` or ``1-3 (tied)``."""
        first, last = int(self.first_M[method]), int(self.last_M[method])
        return str(first) if first == last else f"{first}-{last} (tied)"

    def note(self, method: int) -> str:
        """The note of a line that is tied with another because too few titles differ."""
        return "too few titles differ" if self.few_MM[method].any() else ""


def rank_pairs(
    mean_M: FloatArray, p_MM: FloatArray, differing_MM: IntArray, alpha: float = ALPHA
) -> Ranks:
    """Rank every method by whom it is separated from, Holm over all pairs.

    A method's first rank is one plus the number of methods that are significantly better, its last rank the
    number of methods less those significantly worse.

    Args:
        mean_M: what is ranked, higher is better.
        p_MM: p of each pair; the upper triangle is read.
        differing_MM: clusters that differ, where the pair's p is one of sign flips; large elsewhere.
        alpha: level of the family.
    """
    m, above = len(mean_M), np.triu_indices(len(mean_M), 1)
    adjusted_MM: FloatArray = np.ones((m, m))
    few_MM: BoolArray = np.zeros((m, m), bool)
    adjusted_MM[above] = holm(p_MM[above].tolist())
    few_MM[above] = differing_MM[above] < least_clusters(max(len(above[0]), 1), alpha)
    adjusted_MM, few_MM = np.minimum(adjusted_MM, adjusted_MM.T), few_MM | few_MM.T
    ahead_MM = (mean_M[:, None] > mean_M) & (adjusted_MM < alpha)
    return Ranks(1 + ahead_MM.sum(axis=0), m - ahead_MM.sum(axis=1), adjusted_MM, few_MM)
