"""NDCG of one target a query."""

from __future__ import annotations

import numpy as np

from bench.evaluation.metrics.base import PositionMetric, metrics
from bench.types import FloatArray, IntArray


@metrics.register("ndcg")
class NDCG(PositionMetric):
    """Normalised discounted cumulative gain: 1 / log2(r + 1) for a target at rank r <= k, else 0.

    With one target a query the ideal gain is 1, so nothing is left to normalise by. Source: Järvelin and
    Kekäläinen, Cumulated gain-based evaluation of IR techniques (TOIS 2002).
    """

    label, shown = "NDCG", (10, 5, 1)

    def weight(self, rank_K: IntArray) -> FloatArray:
        """The discount."""
        return 1.0 / np.log2(rank_K + 1.0)
