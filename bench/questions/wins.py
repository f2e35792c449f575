"""The test rows on which one cell beats another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.errors import DataError
from bench.evaluation.metrics.scores import gain
from bench.questions.exam import Answered
from bench.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Wins:
    """Two cells on the same test rows.

    Attributes:
        gap_Q: gain of the first minus that of the second, float64 [Q].
        row_W: the rows where the first is ahead, the largest gap first.
        first, second: the cells.
        ahead, behind, level: how many rows each is ahead on, and on how many both gain the same.
    """

    gap_Q: FloatArray
    row_W: IntArray
    first: Answered
    second: Answered
    ahead: int
    behind: int
    level: int

    def records(self, most: int | None = None) -> Iterator[dict[str, Any]]:
        """The rows where the first is ahead, ready for JSON: as ``Answered.record``, with both lists.

        Args:
            most: how many; None for all.
        """
        for row in self.row_W[:most].tolist():
            yield {
                **self.first.record(row),
                "gap": float(self.gap_Q[row]),
                "target_rank_b": self.second.rank(row),
                "list_b": self.second.list(row),
            }


def wins(first: Answered, second: Answered, metric: str) -> Wins:
    """Compare two cells row by row; a list that goes on by chance counts with its expectation.

    Args:
        first: the cell that should be ahead.
        second: the other.
        metric: of positions, e.g. ``ndcg@10``.

    Raises:
        DataError: they were examined on different rows.
    """
    same = first.packed.asks(second.packed.user_Q) and np.array_equal(
        first.exam.target_Q, second.exam.target_Q
    )
    if not same:
        raise DataError("the two cells were examined on different test rows; nothing is paired")
    gap_Q = gain(first.packed.title, metric) - gain(second.packed.title, metric)
    order_Q = np.argsort(-gap_Q, kind="stable")
    ahead, behind = int((gap_Q > 0).sum()), int((gap_Q < 0).sum())
    level = len(gap_Q) - ahead - behind
    return Wins(gap_Q, order_Q[:ahead], first, second, ahead, behind, level)
