"""Which method is ahead over several datasets: the mean difference of logarithms over shared tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from bench.significance.estimate import Estimate
from bench.significance.intervals import ALPHA
from bench.significance.ranks import rank_pairs
from bench.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class LogPairs:
    """What a table contributes: small arrays that can be kept, float64.

    Attributes:
        mean_M: the means.
        variance_MM, freedom_MM: of the difference of each pair's logarithms.
        p_MM: Holm-adjusted p of each pair within the table.
    """

    mean_M: FloatArray
    variance_MM: FloatArray
    freedom_MM: FloatArray
    p_MM: FloatArray

    @classmethod
    def of(cls, table: Estimate, alpha: float = ALPHA) -> LogPairs:
        """What the ranks over all datasets need of one table.

        Args:
            table: the estimate of the table.
            alpha: level of its ranks.
        """
        spread = table.of_log_pairs
        return cls(table.mean_M, spread.total, spread.freedom, table.ranks(alpha).p_MM)


@dataclass(frozen=True, eq=False)
class Overall:
    """Ranks over all tables; speaks of these datasets, not of others.

    Only lines that are on every table and hit something on each are ranked (R of them).

    Attributes:
        ranked_R: positions of the ranked lines, in the given order.
        tables_A: on how many tables each line is.
        log_mean_R: mean logarithm of the ranked lines' means; ``exp`` of it is their geometric mean.
        p_RR: Holm-adjusted p of each pair.
        ahead_RR: whether the line of the row is ahead of that of the column.
        first_R, last_R: bounds of the ranks.
    """

    ranked_R: IntArray
    tables_A: IntArray
    log_mean_R: FloatArray
    p_RR: FloatArray
    ahead_RR: BoolArray
    first_R: IntArray
    last_R: IntArray


def over_tables(tables: Sequence[LogPairs], place_AD: IntArray, alpha: float = ALPHA) -> Overall:
    """Rank lines over several tables.

    Of each table d the difference of two lines' logarithms and its variance v are taken; the mean difference
    has variance Σ v / D² and Satterthwaite's degrees of freedom. One line is ahead of another if they are
    separated (Holm over all pairs) and no single table separates them the other way.

    Args:
        tables: one a dataset.
        place_AD: where line a is in table d; -1 where it is not.
        alpha: level of the family.
    """
    mean_AD = np.stack(
        [
            np.where(place_A >= 0, table.mean_M[place_A], 0.0)
            for table, place_A in zip(tables, place_AD.T, strict=True)
        ],
        axis=1,
    )
    ranked_R = np.flatnonzero((mean_AD > 0).all(axis=1))
    log_R = np.log(mean_AD[ranked_R]).mean(axis=1)
    r = len(ranked_R)
    total_RR, below_RR = np.zeros((2, r, r))
    against_RR = np.zeros((r, r), bool)
    for table, place_A in zip(tables, place_AD.T, strict=True):
        at = np.ix_(place_A[ranked_R], place_A[ranked_R])
        variance_RR = table.variance_MM[at] / len(tables) ** 2
        total_RR += variance_RR
        below_RR += variance_RR**2 / table.freedom_MM[at]
        behind_MM = table.mean_M[:, None] < table.mean_M
        against_RR |= (behind_MM & (table.p_MM < alpha))[at]
    gap_RR = log_R[:, None] - log_R
    freedom_RR = np.divide(
        total_RR**2, below_RR, out=np.full_like(total_RR, np.inf), where=below_RR > 0
    )
    t_RR = np.divide(
        np.abs(gap_RR), np.sqrt(total_RR), out=np.zeros_like(gap_RR), where=total_RR > 0
    )
    p_RR = 2 * scipy_stats.t.sf(t_RR, np.maximum(freedom_RR, 1))
    ranks = rank_pairs(log_R, p_RR, np.full((r, r), np.iinfo(np.int64).max), alpha)
    ahead_RR = (gap_RR > 0) & (ranks.p_MM < alpha) & ~against_RR
    return Overall(
        ranked_R,
        (place_AD >= 0).sum(axis=1),
        log_R,
        ranks.p_MM,
        ahead_RR,
        1 + ahead_RR.sum(axis=0),
        r - ahead_RR.sum(axis=1),
    )
