"""Intervals of one mean or of one difference, with the notes that are printed beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from bench.significance.spread import Scope, Spread

ALPHA = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean with a 95 % interval.

    Attributes:
        mean, low, high: the mean and the ends, within 0 and 1.
        words: the population that the interval is about.
        note: a caveat for the reader, empty if there is none.
    """

    mean: float
    low: float
    high: float
    words: Scope
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """A paired difference of means, first minus second.

    Attributes:
        gap: the difference.
        low, high: 95 % interval; excludes 0 exactly where p is below 5 %.
        p: two-sided probability of a gap this large if there were none.
        effect: gap in standard deviations of the per-user differences (Cohen's d_z).
        spread: its variance by source, single numbers.
        words: the population that it is about.
        note: a caveat for the reader, empty if there is none.
    """

    gap: float
    low: float
    high: float
    p: float
    effect: float
    spread: Spread
    words: Scope
    note: str = ""

    @property
    def se(self) -> float:
        """Standard error of the gap."""
        return math.sqrt(float(self.spread.total))

    @property
    def df(self) -> float:
        """Degrees of freedom of the t distribution."""
        return float(self.spread.freedom)

    @property
    def parts(self) -> Mapping[str, float]:
        """Variance of the gap by source; they add up to the squared standard error."""
        names = ("users", "titles", "fits", "luck")
        return {name: float(getattr(self.spread, name)) for name in names}


def around(mean: float, reach: float, words: Scope, note: str) -> Interval:
    """``[X e^-y, X e^y]`` with ``y = reach / X``: a t interval of the logarithm.

    Args:
        mean: X, above 0.
        reach: t quantile times the standard error of the mean.
        words: what the interval speaks of.
        note: what a reader must know of it.
    """
    y = min(reach / mean, 700.0)  # e^700 still is a number
    return Interval(mean, mean * math.exp(-y), min(mean * math.exp(y), 1.0), words, note)


def alike(mean: float, clusters: float, words: Scope, note: str, alpha: float) -> Interval:
    """Where all rows gained the same: what a share of 0 unlike clusters leaves open.

    Args:
        mean: what each of them gained.
        clusters: how many there are; 0 where the mean is known exactly.
        words: what the interval speaks of.
        note: goes with it.
        alpha: one minus the level.
    """
    unlike = 1 - (alpha / 2) ** (1 / clusters) if clusters else 0.0
    return Interval(mean, mean * (1 - unlike), mean * (1 - unlike) + unlike, words, note)


def symmetric(gap: float, spread: Spread, p: float, alpha: float) -> tuple[float, float]:
    """Ends of a difference: ``gap ± t sqrt(V)``, widened to agree with p where a guard raised it.

    Args:
        gap: the difference.
        spread: its variance by source.
        p: two-sided p of the gap, from t or from sign flips.
        alpha: one minus the level.
    """
    reach, freedom = float(spread.reach(alpha)), float(spread.freedom)
    if gap and p > float(spread.p(np.asarray(gap))):
        at_p = float(scipy_stats.t.isf(p / 2, freedom))
        ratio = float(scipy_stats.t.isf(alpha / 2, freedom)) / at_p if at_p > 0 else math.inf
        reach = max(reach, abs(gap) * ratio)
    return gap - reach, gap + reach


def least_clusters(pairs: int, alpha: float) -> int:
    """How many clusters have to differ before sign flips can separate one pair among ``pairs``.

    Args:
        pairs: comparisons that share the level.
        alpha: the level.
    """
    return math.ceil(1 + math.log2(pairs / alpha) - 1e-9)


def note_few(differing: int, alpha: float) -> str:
    """The note of a comparison in which too few clusters differ for any result to be significant.

    Args:
        differing: clusters that differ.
        alpha: the level.
    """
    return "too few titles differ" if differing < least_clusters(1, alpha) else ""
