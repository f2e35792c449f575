"""Numbers of targets at each rank, which determine the mean of every metric of positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.cell import K
from bench.evaluation.metrics.base import weights
from bench.evaluation.positions import Positions
from bench.types import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class RankCounts:
    """Targets by rank, in expectation where lists go on by chance.

    Attributes:
        n: queries.
        count_K: how many of their targets are at ranks 1 to K, float64 [K].
    """

    n: int
    count_K: FloatArray

    def mean(self, name: str) -> float:
        """Mean of a metric of positions (``ndcg@10``) over the queries; 0 if there are none."""
        weight_K = weights(name)
        total = float(self.count_K[: len(weight_K)] @ weight_K)
        return total / self.n if self.n else 0.0


def rank_counts(positions: Positions, mask_Q: BoolArray | None = None) -> RankCounts:
    """Count the targets at each rank.

    Args:
        positions: of the targets.
        mask_Q: the queries to count, None for all.
    """
    if mask_Q is not None:
        positions = positions.take(mask_Q)
    count_K = np.bincount(positions.position_Q, minlength=256)[:K].astype(np.float64)
    if positions.chance_Q is not None:
        rank = np.arange(K)
        start_Q, stop_Q, chance_Q = positions.random_ranks
        count_K += chance_Q @ ((start_Q[:, None] <= rank) & (rank < stop_Q[:, None]))
    return RankCounts(len(positions), count_K)
