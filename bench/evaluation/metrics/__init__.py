"""The registry of metrics and the ways to compute them; each metric is one file of this folder."""

from bench.evaluation.metrics.base import (
    ListMetric,
    PositionMetric,
    find,
    list_names,
    metrics,
    position_names,
    weights,
)
from bench.evaluation.metrics.counts import RankCounts, rank_counts
from bench.evaluation.metrics.scores import evaluate, gain, gains, luck, means
from bench.evaluation.positions import Positions

__all__ = [
    "ListMetric",
    "PositionMetric",
    "Positions",
    "RankCounts",
    "evaluate",
    "find",
    "gain",
    "gains",
    "list_names",
    "luck",
    "means",
    "metrics",
    "position_names",
    "rank_counts",
    "weights",
]
