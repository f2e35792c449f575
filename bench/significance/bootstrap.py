"""Which differences are real: paired intervals over users and seeds. numpy and scipy only.

Methods are compared on the same queries, so everything is paired; queries of one user are not independent,
so users are resampled and not rows; fits with different seeds differ, so seeds are resampled too, crossed
with the users. Axes: M methods, S seeds, Q queries, U users, R resamples.

What is not covered: the choice of the split and of the hyper-parameters. Wilcoxon and sign tests are left
out on purpose, as they reject too often at these sizes (Ihemelandu and Ekstrand, SIGIR 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

from bench.types import FloatArray, IntArray

DRAWS = 10_000
ALPHA = 0.05
FEW = 20  # fewer resamples than this beyond the gap: too few to count, the tail is taken from t
NOTHING = 1e-12  # spreads and gaps below this are rounding
_CHUNK = 1 << 22  # user weights held at a time


@dataclass(frozen=True)
class Difference:
    """A paired difference of means, first minus second.

    Attributes:
        gap: the difference.
        low, high: 95 % interval.
        p: two-sided probability of a gap this large if there were none.
        effect: gap in standard deviations of the per-user differences (Cohen's d_z).
        se: its standard error.
        seed_se: the part of it that is due to seeds, which more queries do not lessen.
    """

    gap: float
    low: float
    high: float
    p: float
    effect: float
    se: float
    seed_se: float


@dataclass(frozen=True, eq=False)
class Draws:
    """Resampled means of several methods over the same users; made by ``resample``.

    Attributes:
        mean_M: the means themselves.
        draw_RM: the resampled means. Column differences are paired: one draw has one set of users.
        user_UM: per-user means, averaged over seeds; for effect sizes.
        skew_M: acceleration of each mean, a sixth of the skewness of its users' shares.
        seed_variance_M: variance of the mean due to seeds, 0 where there is one seed.
        seeds_M: how many seeds.
        luck_RM: what one draw of random lists would add to each mean. A method that recommends at random is
            scored by its expectation, which has no luck of its own; without this, any list that happened to
            hit a little less or more often than the average random list would differ from it for certain.
    """

    mean_M: FloatArray
    draw_RM: FloatArray
    user_UM: FloatArray
    skew_M: FloatArray
    seed_variance_M: FloatArray
    seeds_M: IntArray
    luck_RM: FloatArray

    @cached_property
    def se_M(self) -> FloatArray:
        """Standard errors of the means."""
        return self.draw_RM.std(axis=0)

    def interval(self, method: int, alpha: float = ALPHA) -> tuple[float, float]:
        """Interval of one mean at level 1 - alpha: BCa (Efron, 1987), as gains are skewed.

        Where all users have gained the same (nothing, most often) there is nothing to resample: as gains lie
        between 0 and 1, the ends are those that a share of 0 unlike users leaves open (Clopper and Pearson,
        1934). An expectation over random lists that is the same for all users is known exactly.
        """
        draw_R, mean = self.draw_RM[:, method], float(self.mean_M[method])
        norm, variance = scipy_stats.norm, float(draw_R.var())
        if draw_R.std() < NOTHING:
            if self.luck_RM[:, method].any():
                return mean, mean
            unlike = float(1 - (alpha / 2) ** (1 / len(self.user_UM)))
            return mean * (1 - unlike), mean * (1 - unlike) + unlike
        below = float(np.mean(draw_R < mean) + np.mean(draw_R == mean) / 2)
        bias = float(norm.ppf(np.clip(below, 1e-3, 1 - 1e-3)))
        # seeds are drawn symmetrically, so they dilute the skewness of the users
        seeds = float(self.seed_variance_M[method])
        users = max(variance - seeds, 0.0)
        skew = float(self.skew_M[method]) * (users / variance) ** 1.5
        z = bias + norm.ppf([alpha / 2, 1 - alpha / 2])
        ends = np.quantile(draw_R, norm.cdf(bias + z / (1 - skew * z)))
        freedom = self._freedom(users, seeds, int(self.seeds_M[method]) - 1)
        low, high = mean + (ends - mean) * _widen(freedom, alpha)
        return float(low), float(high)

    def difference(self, first: int, second: int, alpha: float = ALPHA) -> Difference:
        """Paired difference of two methods, by position.

        The interval is symmetric and excludes 0 exactly where p is below alpha. With one seed a method both
        are read off the resamples. Two or three seeds are too few to resample and often agree by chance, so
        there both are those of a t distribution, in which a method's seeds spread no less than all
        methods' seeds do on average. Where all users differ by the same, p is that of a sign test; one user
        says nothing.
        """
        gap, n_users, pair = (
            self.mean_M[first] - self.mean_M[second],
            len(self.user_UM),
            [first, second],
        )
        draw_RM = self.draw_RM + self.luck_RM
        draw_R = draw_RM[:, first] - draw_RM[:, second]
        users = max(float(draw_R.var() - self.seed_variance_M[pair].sum()), 0.0)
        variance_M, seed_freedom = self._pooled_seeds
        seeds = float(variance_M[pair].sum())
        se, freedom = float(np.sqrt(users + seeds)), self._freedom(users, seeds, seed_freedom)
        if n_users < 2:
            reach, p = 1.0 + abs(gap), 1.0
        elif se < NOTHING:
            p = 1.0 if abs(gap) < NOTHING else 2.0 ** (1 - n_users)
            reach = abs(gap) if p >= alpha else 0.0
        elif seeds:
            reach = scipy_stats.t.ppf(1 - alpha / 2, freedom) * se
            p = 2 * scipy_stats.t.sf(abs(gap) / se, freedom)
        else:
            off_R = np.abs(draw_R - gap) * _widen(freedom, alpha)
            reach, p = np.quantile(off_R, 1 - alpha), _tail(off_R, abs(gap), se, freedom)
        apart_U = self.user_UM[:, first] - self.user_UM[:, second]
        spread = float(apart_U.std(ddof=1)) if n_users > 1 else 0.0
        effect = gap / spread if spread > NOTHING else 0.0
        numbers = (gap, gap - reach, gap + reach, p, effect, se, np.sqrt(seeds))
        return Difference(*map(float, numbers))

    @cached_property
    def _pooled_seeds(self) -> tuple[FloatArray, int]:
        """Variance of each mean due to seeds, at least that of the average fit, and its degrees of freedom.

        A method whose seeds all agree to the digit draws no chance and has none here either.
        """
        more_M = np.where(self.seed_variance_M > 0, self.seeds_M - 1, 0)
        fit_M, freedom = self.seed_variance_M * self.seeds_M, int(more_M.sum())
        pooled = float((more_M * fit_M).sum()) / max(freedom, 1)
        return np.where(more_M > 0, np.maximum(fit_M, pooled) / self.seeds_M, 0.0), freedom

    def _freedom(self, users: float, seeds: float, seed_freedom: int) -> float:
        """Degrees of freedom of a variance made of users' and seeds' (Satterthwaite)."""
        n_users = max(len(self.user_UM), 2)
        below = users**2 / (n_users - 1) + seeds**2 / max(seed_freedom, 1)
        return (users + seeds) ** 2 / below if below > 0 else float(n_users - 1)


def _widen(freedom: float, alpha: float) -> float:
    """How much wider few users or few seeds make an interval than resampling alone shows."""
    t = scipy_stats.t.ppf(1 - alpha / 2, freedom)
    return float(t / scipy_stats.norm.ppf(1 - alpha / 2))


def _tail(off_R: FloatArray, gap: float, se: float, freedom: float) -> float:
    """Share of resamples at least ``gap`` off; a t tail where they are too few to count."""
    beyond = int((off_R >= gap * (1 - 1e-12)).sum())
    if beyond >= FEW:
        return beyond / len(off_R)
    return float(min(FEW / len(off_R), 2 * scipy_stats.t.sf(gap / se, freedom)))


def resample(
    gain_MSQ: Sequence[FloatArray],
    user_Q: IntArray,
    *,
    luck_M: npt.ArrayLike = 0.0,
    draws: int = DRAWS,
    seed: int = 0,
) -> Draws:
    """Bootstrap the means of several methods over users and seeds at once.

    One resample draws as many users as there are, with all their queries, and takes the mean over the drawn
    queries; then it draws as many seeds as there are and adds the deviation of their means, scaled by
    sqrt(S / (S - 1)), without which few seeds would seem to agree better than they do (Rao and Wu, 1988).
    The luck of single queries is in both parts, which widens intervals of several seeds a little; three seeds
    say too little of their own spread to take it out.

    Args:
        gain_MSQ: for each method its gains, float [S, Q]; S may differ, Q may not.
        user_Q: whose query it is.
        luck_M: variance of each mean over draws of random lists; 0 for a method that draws none.
        draws: R.
        seed: of the resampling; equal seeds give equal results.
    """
    _, index_Q, rows_U = np.unique(user_Q, return_inverse=True, return_counts=True)
    seeds_M = np.array([len(gain_SQ) for gain_SQ in gain_MSQ])
    assert all(gain_SQ.shape[1] == len(user_Q) for gain_SQ in gain_MSQ), "one user a query"
    total_MSU: list[FloatArray] = [
        np.stack([np.bincount(index_Q, gain_Q, len(rows_U)) for gain_Q in gain_SQ])
        for gain_SQ in gain_MSQ
    ]
    total_UM = np.stack([total_SU.mean(axis=0) for total_SU in total_MSU], axis=1)
    rng = np.random.default_rng(seed)
    off_MS = [_deviations(total_SU.sum(axis=1) / len(user_Q)) for total_SU in total_MSU]
    draw_RM = np.stack([_seed_weights(rng, draws, len(off_S)) @ off_S for off_S in off_MS], axis=1)
    start = 0
    for weight_BU in _user_weights(rng, draws, len(rows_U)):
        stop = start + len(weight_BU)
        draw_RM[start:stop] += (weight_BU @ total_UM) / (weight_BU @ rows_U)[:, None]
        start = stop
    return Draws(
        mean_M=total_UM.sum(axis=0) / len(user_Q),
        draw_RM=draw_RM,
        user_UM=total_UM / rows_U[:, None],
        skew_M=_acceleration(total_UM, rows_U),
        seed_variance_M=np.array(
            [(off_S**2).sum() / max(len(off_S) - 1, 1) / len(off_S) for off_S in off_MS]
        ),
        seeds_M=seeds_M,
        luck_RM=rng.standard_normal((draws, len(gain_MSQ))) * np.sqrt(luck_M),
    )


def _acceleration(total_UM: FloatArray, rows_U: IntArray) -> FloatArray:
    """BCa's acceleration of a mean over drawn users, float [M]."""
    share_UM = total_UM - rows_U[:, None] * (total_UM.sum(axis=0) / rows_U.sum())
    scale_M = 6 * (share_UM**2).sum(axis=0) ** 1.5
    cube_M: FloatArray = (share_UM**3).sum(axis=0)
    return np.divide(cube_M, scale_M, out=np.zeros_like(cube_M), where=scale_M > 0)


def _deviations(mean_S: FloatArray) -> FloatArray:
    return mean_S - mean_S.mean()


def _seed_weights(rng: np.random.Generator, draws: int, n_seeds: int) -> FloatArray:
    """Weights of the seeds of one method, float [R, S]; rows sum to 1."""
    if n_seeds == 1:
        return np.ones((draws, 1))
    drawn_RS = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), draws) / n_seeds
    return 1 / n_seeds + np.sqrt(n_seeds / (n_seeds - 1)) * (drawn_RS - 1 / n_seeds)


def _user_weights(rng: np.random.Generator, draws: int, n_users: int) -> Iterator[FloatArray]:
    """How often each user is drawn, float [B, U] a chunk; rows sum to U."""
    for start in range(0, draws, max(_CHUNK // n_users, 1)):
        rows = min(max(_CHUNK // n_users, 1), draws - start)
        drawn = rng.integers(0, n_users, (rows, n_users))
        drawn += n_users * np.arange(rows)[:, None]
        count = np.bincount(drawn.ravel(), minlength=rows * n_users)
        yield count.reshape(rows, n_users).astype(np.float64)


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two lists of scores of the same methods; nan for fewer than two of them."""
    if len(first) < 2:
        return float("nan")
    result: Any = scipy_stats.kendalltau(first, second)
    return float(result.statistic)


def by_seed(gains: Sequence[npt.ArrayLike]) -> FloatArray:
    """Gains of one configuration, one list a seed, as float [S, Q]."""
    return np.stack([np.asarray(gain_Q, np.float64) for gain_Q in gains])
