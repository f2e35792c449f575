"""Statistical power: the gap that can be found with given test rows, and the rows that a gap needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from bench.significance.estimate import Estimate
from bench.significance.intervals import ALPHA
from bench.types import FloatArray


def detectable_gap(se: float, *, pairs: int = 1, power: float = 0.8, alpha: float = ALPHA) -> float:
    """Smallest true gap that a comparison finds: ``(z_(1 - alpha / (2 pairs)) + z_power) se``.

    Args:
        se: standard error of the difference.
        pairs: how many comparisons share the level, all pairs of a table for its ranks.
        power: chance to find the gap.
        alpha: level of the two-sided test.
    """
    z = scipy_stats.norm.isf(alpha / (2 * pairs)) + scipy_stats.norm.ppf(power)
    return float(z) * se


@dataclass(frozen=True)
class Needed:
    """Number of rows or seeds needed to find a gap.

    Attributes:
        number: rows, or seeds; None if no number is enough.
        lacks: what is needed instead where it is None: ``more titles``, ``more seeds`` or ``more rows``.
    """

    number: int | None
    lacks: str = ""


def pair_variances(
    table: Estimate,
    *,
    rows: int | None = None,
    seeds: int | None = None,
    new_titles: bool = True,
) -> FloatArray:
    """Variance of each difference, float [M, M], had there been other numbers of rows and seeds.

    Args:
        table: what was measured.
        rows: n', test rows; None for as many as there are.
        seeds: S', of each method that draws chance; None for as many as each has.
        new_titles: whether more rows bring more target titles; else they repeat these.
    """
    users, titles, fits = _parts(table, seeds)
    share = 1.0 if rows is None else table.n / rows
    return users * share + titles * (share if new_titles else 1.0) + fits


def median_se(table: Estimate) -> float:
    """Standard error of the table's middle pair; 0 for a table of one line."""
    above = np.triu_indices(len(table.mean_M), 1)
    return float(np.sqrt(np.median(table.of_pairs.total[above]))) if len(above[0]) else 0.0


def more_rows(
    table: Estimate,
    pair: tuple[int, int],
    gap: float,
    *,
    pairs: int = 1,
    new_titles: bool = True,
    power: float = 0.8,
) -> Needed:
    """How many test rows it takes to find a gap between two methods, with the seeds they have.

    Args:
        table: what was measured.
        pair: positions of the methods.
        gap: true difference, not 0.
        pairs: how many comparisons share the level.
        new_titles: whether more rows bring more target titles.
        power: chance to find the gap.
    """
    users, titles, fits = (float(part[pair]) for part in _parts(table, None))
    allowed = (gap / detectable_gap(1.0, pairs=pairs, power=power)) ** 2
    fixed = fits + (0.0 if new_titles else titles)
    if allowed <= fixed:
        return Needed(None, "more seeds" if fits > fixed - fits else "more titles")
    shrinking = users + (titles if new_titles else 0.0)
    return Needed(math.ceil(table.n * shrinking / (allowed - fixed) - 1e-9))


def more_seeds(
    table: Estimate, pair: tuple[int, int], gap: float, *, pairs: int = 1, power: float = 0.8
) -> Needed:
    """How many seeds of each method it takes to find a gap, on the rows there are.

    Args:
        table: what was measured.
        pair: positions of the methods.
        gap: true difference, not 0.
        pairs: how many comparisons share the level.
        power: chance to find the gap.
    """
    at = [float(sum(part[pair] for part in _parts(table, seeds))) for seeds in (1, 2)]
    shrinking = 2 * (at[0] - at[1])  # V = fixed + shrinking / S
    fixed = at[0] - shrinking
    allowed = (gap / detectable_gap(1.0, pairs=pairs, power=power)) ** 2
    if allowed <= fixed:
        return Needed(None, "more rows")
    return Needed(max(math.ceil(shrinking / (allowed - fixed) - 1e-9), 1))


def _parts(table: Estimate, seeds: int | None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Variance of pairs that goes with rows, with titles and with fits alone, float [M, M]."""
    found, old_M = table.of_pairs, table.seeds_M
    chance_M = table.inputs.chance_M & (table.scope != "this fit")
    new_M = np.where(chance_M, old_M if seeds is None else seeds, old_M)
    square_M = np.where(chance_M, table.mean_M**2, 0.0)
    known_M = np.where(np.isfinite(table.fits.within_M), table.fits.within_M, 0.0)
    within_M = np.where(old_M > 1, known_M, table.fits.within_share * square_M)
    rows_M, fits_M = within_M * (1 / new_M - 1 / old_M), table.fits.variance * square_M / new_M
    rows_MM, fits_MM = rows_M[:, None] + rows_M, fits_M[:, None] + fits_M
    return np.maximum(found.users + found.luck + rows_MM, 0.0), found.titles, fits_MM
