"""Mean reciprocal rank of one target a query."""

from __future__ import annotations

from bench.evaluation.metrics.base import PositionMetric, metrics
from bench.types import FloatArray, IntArray


@metrics.register("mrr")
class MRR(PositionMetric):
    """Mean reciprocal rank: 1 / r for a target at rank r <= k, else 0.

    Source: Voorhees, The TREC-8 question answering track report (1999).
    """

    label, shown = "MRR", (10,)

    def weight(self, rank_K: IntArray) -> FloatArray:
        """The reciprocal."""
        return 1.0 / rank_K
