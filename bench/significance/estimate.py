"""Means, intervals, differences and ranks of several methods from their gains on the same test rows.

A gain depends on the row's user, on its target's title and on the fit; each of them is thought of as drawn
anew (``Scope``), and the variance is taken apart by these sources. numpy and scipy only, no resampling.

Not covered: another period or shop, the choice of the split and of the hyper-parameters.

Axes: M methods, S seeds, Q test rows, U users, T titles, C fits (methods times their seeds).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bench.significance.clusters import NOTHING, Clusters
from bench.significance.concentration import Concentration, concentrate
from bench.significance.intervals import (
    ALPHA,
    Difference,
    Interval,
    alike,
    around,
    note_few,
    symmetric,
)
from bench.significance.ranks import Ranks, rank_pairs
from bench.significance.seeds import Fits
from bench.significance.sign_flip import FEW, flip_p
from bench.significance.spread import Scope, Sources, Spread
from bench.types import BoolArray, FloatArray, IntArray

FEW_TITLES = 5  # effective titles below which no interval over titles is given


@dataclass(frozen=True, eq=False)
class Inputs:
    """What was compared; see ``two_way``."""

    gain_MSQ: tuple[FloatArray, ...]
    user_Q: IntArray
    title_Q: IntArray | None
    luck_M: FloatArray
    chance_M: BoolArray
    names: tuple[str, ...]
    prior: float


@dataclass(frozen=True, eq=False)
class Estimate:
    """Means of several methods over the same rows with all that is known of their uncertainty.

    Attributes:
        inputs: what it was made from.
        users, titles: the clusters of the rows; no titles where targets are unknown.
        user_UM, title_TM: sums of gains, averaged over seeds.
        sources: moments of the influences.
        fits: what training's chance adds.
        scope: what is thought of as drawn anew.
    """

    inputs: Inputs
    users: Clusters
    titles: Clusters | None
    user_UM: FloatArray
    title_TM: FloatArray | None
    sources: Sources
    fits: Fits
    scope: Scope

    @cached_property
    def mean_M(self) -> FloatArray:
        """X, the mean over seeds and rows."""
        return self.user_UM.sum(axis=0) / self.n

    @property
    def n(self) -> int:
        """Test rows."""
        return len(self.inputs.user_Q)

    @cached_property
    def seeds_M(self) -> IntArray:
        """S of each method."""
        return np.array([len(gain_SQ) for gain_SQ in self.inputs.gain_MSQ])

    def within(self, scope: Scope) -> Estimate:
        """The same under another scope; without titles ``targets like these`` cannot be had."""
        assert self.titles is not None or scope != "targets like these", "targets are unknown"
        return replace(self, scope=scope)

    @property
    def one_way(self) -> Estimate:
        """Over users and fits alone: what holds for these targets."""
        return self.within("these targets")

    @property
    def _drawn(self) -> Sources:
        return self.sources if self.scope == "targets like these" else Sources(self.sources.users)

    def _fits(self, scale_M: FloatArray) -> FloatArray:
        """s, the squared means over their seeds, 0 where no chance is drawn."""
        chance_M = self.inputs.chance_M & (self.scope != "this fit")
        return np.where(chance_M, (self.mean_M * scale_M) ** 2 / self.seeds_M, 0.0)

    @cached_property
    def of_means(self) -> Spread:
        """Of each mean, float [M]; an expectation over random lists has no luck of its own."""
        users, titles, few_users, few_titles = self._drawn.parts(lambda m: m.of_means)
        s_M, none_M = self._fits(np.ones_like(users)), np.zeros_like(users)
        fits = (self.fits.variance * s_M, s_M**2 / self.fits.weight)
        return Spread(users, titles, none_M, fits[0], few_users, few_titles, fits[1])

    @cached_property
    def of_pairs(self) -> Spread:
        """Of each difference of two means, float [M, M]."""
        return self._pairs(np.ones(len(self.mean_M)))

    @cached_property
    def of_log_pairs(self) -> Spread:
        """Of each difference of two means' logarithms, float [M, M]; infinite where a mean is 0."""
        with np.errstate(divide="ignore"):
            scale_M = np.where(self.mean_M > 0, 1 / self.mean_M, 0.0)
        found, some_M = self._pairs(scale_M), self.mean_M > 0
        users = np.where(some_M[:, None] & some_M, found.users, np.inf)
        return replace(found, users=users)

    def _pairs(self, scale_M: FloatArray) -> Spread:
        users, titles, few_users, few_titles = self._drawn.scaled(scale_M).parts(
            lambda m: m.of_pairs
        )
        luck_M, s_M = self.inputs.luck_M * scale_M**2, self._fits(scale_M)
        luck, s = (part_M[:, None] + part_M for part_M in (luck_M, s_M))
        for both in (luck, s):
            np.fill_diagonal(both, 0.0)
        fits = (self.fits.variance * s, s**2 / self.fits.weight)
        return Spread(users, titles, luck, fits[0], few_users, few_titles, fits[1])

    def mean(self, method: int, alpha: float = ALPHA) -> Interval:
        """Interval of one method's mean: a t interval of its logarithm, as gains are skewed.

        Where all rows gained the same (nothing, most often), the interval is that of a share of 0 rows
        that differ (Clopper and Pearson, 1934). A mean with fewer than five hit titles gets the interval
        for these targets only, and its note says so.

        Args:
            method: its position.
            alpha: one minus the level.
        """
        spread, mean = self.of_means, float(self.mean_M[method])
        note = self._one_seed_note(method)
        if len(self.users) < 2 or spread.rows[method] <= NOTHING * mean**2:
            known = bool(self.inputs.luck_M[method])  # an expectation, the same for all rows
            return alike(mean, 0.0 if known else self._few_clusters, self.scope, note, alpha)
        few = float(spread.few_titles[method])
        if few < FEW_TITLES:
            found = self.one_way.mean(method, alpha)
            told = f"hangs on {max(round(few), 1)} title{'s' * (round(few) > 1)}"
            return replace(found, note="; ".join(filter(None, (told, found.note))))
        return around(mean, float(spread.reach(alpha)[method]), self.scope, note)

    @property
    def _few_clusters(self) -> float:
        if self.titles is None or self.scope != "targets like these":
            return float(len(self.users))
        return min(float(len(self.users)), self.titles.effective)

    def _one_seed_note(self, method: int) -> str:
        if self.seeds_M[method] > 1 or not self.inputs.chance_M[method] or self.scope == "this fit":
            return ""
        if self.fits.lines:
            lines = f"{self.fits.lines} line{'s' * (self.fits.lines > 1)}"
            return f"one seed: spread of fits pooled from {lines} with several"
        return f"one seed: spread of fits taken as {100 * self.fits.prior:.0f} % of the mean"

    def difference(self, first: int, second: int, alpha: float = ALPHA) -> Difference:
        """Paired difference of two methods: a t test, replaced by sign flips where few clusters differ.

        The effect is the gap in standard deviations of the per-user differences (Cohen's d_z).

        Args:
            first: position of one method.
            second: position of the other, which is subtracted.
            alpha: one minus the level of the interval.
        """
        gap = float(self.mean_M[first] - self.mean_M[second])
        found = self._tested((first, second), gap, self.of_pairs, alpha)
        low, high = max(found.low, -1.0), min(found.high, 1.0)
        return replace(found, low=low, high=high, effect=self._effect((first, second), gap))

    def log_ratio(self, first: int, second: int, alpha: float = ALPHA) -> Difference | None:
        """Paired difference of two means' logarithms, tested like ``difference``; None where a mean is 0.

        ``exp`` of the gap and of its ends is the ratio first / second with its interval; ``effect`` is 0.

        Args:
            first: position of one method.
            second: position of the other, which the first is divided by.
            alpha: one minus the level of the interval.
        """
        at = (first, second)
        if not min(self.mean_M[first], self.mean_M[second]) > 0:
            return None
        gap = math.log(self.mean_M[first] / self.mean_M[second])
        return self._tested(at, gap, self.of_log_pairs, alpha)

    def _tested(self, at: tuple[int, int], gap: float, pairs: Spread, alpha: float) -> Difference:
        spread = pairs.at(at)
        p, note = float(spread.p(np.asarray(gap))), self._pair_note(at)
        if len(self.users) < 2:
            p, note = 1.0, "one user"
        elif self._guarded[at]:
            flipped, differing = self._flips([at])
            p = max(p, float(flipped[0]))
            note = "; ".join(filter(None, (note_few(differing[0], alpha), note)))
        low, high = symmetric(gap, spread, p, alpha)
        return Difference(gap, low, high, p, 0.0, spread, self.scope, note)

    def _pair_note(self, at: tuple[int, int]) -> str:
        return next(filter(None, map(self._one_seed_note, at)), "")

    def _effect(self, at: tuple[int, int], gap: float) -> float:
        apart_U = (self.user_UM[:, at[0]] - self.user_UM[:, at[1]]) / self.users.rows_G
        spread = float(apart_U.std(ddof=1)) if len(apart_U) > 1 else 0.0
        return gap / spread if spread > NOTHING else 0.0

    @property
    def _guarded(self) -> BoolArray:
        """Pairs in which so few clusters differ, or all by the same, that t is not trusted, bool [M, M]."""
        square_M, pairs = self.mean_M**2, self.of_pairs
        alike_MM = pairs.users <= NOTHING**2 * (square_M[:, None] + square_M)
        return (pairs.few_users < FEW) | (pairs.few_titles < FEW) | alike_MM

    def _flips(self, pairs: Sequence[tuple[int, int]]) -> tuple[FloatArray, IntArray]:
        """The larger p of flipping users and titles, and the fewer clusters that differ."""
        p, differing = flip_p(self.user_UM, pairs)
        if self.scope != "targets like these" or self.title_TM is None:
            return p, differing
        p_titles, titles = flip_p(self.title_TM, pairs)
        return np.maximum(p, p_titles), np.minimum(differing, titles)

    def ranks(self, alpha: float = ALPHA) -> Ranks:
        """Ranks that claim no more than the data do: Holm over all pairs of the table."""
        m = len(self.mean_M)
        gap_MM = self.mean_M[:, None] - self.mean_M
        p_MM, few_MM = self.of_pairs.p(gap_MM), np.full((m, m), np.iinfo(np.int64).max)
        if len(self.users) < 2:
            p_MM = np.ones((m, m))
        # Holm separates no pair under larger p that it does not separate under these
        by_t = rank_pairs(self.mean_M, p_MM, few_MM, alpha)
        open_MM = np.triu(self._guarded & (by_t.p_MM < alpha), 1)
        pairs = [(int(i), int(j)) for i, j in np.argwhere(open_MM)]
        if pairs:
            first, second = np.array(pairs).T
            flipped, differing = self._flips(pairs)
            p_MM[first, second] = np.maximum(p_MM[first, second], flipped)
            few_MM[first, second] = differing
        return rank_pairs(self.mean_M, p_MM, few_MM, alpha)

    def concentration(self, method: int) -> Concentration | None:
        """On how many titles the mean of one method stands; None where targets are unknown."""
        if self.titles is None or self.title_TM is None:
            return None
        gain_Q = self.inputs.gain_MSQ[method].mean(axis=0)
        return concentrate(self.titles, self.title_TM[:, method], float((gain_Q**2).sum()))
