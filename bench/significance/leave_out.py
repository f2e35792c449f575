"""How the ranks of a table change without the target title that helped a method most."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bench.significance.estimate import Estimate
from bench.significance.intervals import ALPHA
from bench.significance.two_way import estimate


@dataclass(frozen=True)
class LeftOut:
    """One method in the table without the rows of its largest target title.

    Attributes:
        title: class of the title.
        rows: how many rows were left out.
        mean: of the method over the others.
        place: by means alone, 1 is highest; ``place_before`` with all rows.
        rank: its ranks, as a table prints them; ``rank_before`` with all rows.
    """

    title: int
    rows: int
    mean: float
    place: int
    place_before: int
    rank: str
    rank_before: str

    @property
    def changed(self) -> bool:
        """Whether the ranks changed."""
        return self.rank != self.rank_before


def without_title(table: Estimate, title: int) -> Estimate:
    """The same table without the rows of one target title.

    Args:
        table: the estimate of all rows.
        title: title class whose rows are left out.
    """
    inputs = table.inputs
    assert inputs.title_Q is not None, "targets are unknown"
    keep_Q = inputs.title_Q != title
    left = replace(
        inputs,
        gain_MSQ=tuple(gain_SQ[:, keep_Q] for gain_SQ in inputs.gain_MSQ),
        user_Q=inputs.user_Q[keep_Q],
        title_Q=inputs.title_Q[keep_Q],
    )
    return replace(estimate(left), scope=table.scope)


def without_largest_title(table: Estimate, alpha: float = ALPHA) -> list[LeftOut | None]:
    """For each method with a badge of concentration the table without its largest title's rows.

    None for a method without a badge, which no single title moves far, or if there is no other title.
    Methods share their largest titles, so few tables are made.

    Args:
        table: the estimate of all rows.
        alpha: level of the ranks.
    """
    if table.titles is None or table.title_TM is None:
        return [None] * len(table.mean_M)
    before, places = table.ranks(alpha), _places(table)
    largest_M = table.title_TM.argmax(axis=0)
    told_M = np.array([bool(_badge(table, m)) for m in range(len(table.mean_M))])
    found: list[LeftOut | None] = [None] * len(table.mean_M)
    for t in np.unique(largest_M[told_M]):
        title, rows = int(table.titles.label_G[t]), int(table.titles.rows_G[t])
        if rows == table.n:
            continue
        left = without_title(table, title)
        after, now = left.ranks(alpha), _places(left)
        for m in np.flatnonzero((largest_M == t) & told_M):
            found[m] = LeftOut(
                title,
                rows,
                float(left.mean_M[m]),
                now[m],
                places[m],
                after.text(int(m)),
                before.text(int(m)),
            )
    return found


def _badge(table: Estimate, method: int) -> str:
    found = table.concentration(method)
    return found.badge if found else ""


def _places(table: Estimate) -> list[int]:
    return [1 + int((table.mean_M > mean).sum()) for mean in table.mean_M]
