"""Hit rate of one target a query."""

from __future__ import annotations

import numpy as np

from bench.evaluation.metrics.base import PositionMetric, metrics
from bench.types import FloatArray, IntArray


@metrics.register("hit")
class Hit(PositionMetric):
    """Hit rate: 1 for a target at rank r <= k, else 0; with one target a query it is recall.

    Source: Deshpande and Karypis, Item-based top-N recommendation algorithms (TOIS 2004).
    """

    label, shown = "Hit", (5, 10)

    def weight(self, rank_K: IntArray) -> FloatArray:
        """One at every rank."""
        return np.ones(len(rank_K))
