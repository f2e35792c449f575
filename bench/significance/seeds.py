"""The variance between fits of one method that comes from training alone, apart from that of the test rows.

The spread of a method's seeds on the same rows holds both: what the fits differ by, and that two fits hit
different rows. Only the first is added to a variance that counts the rows already; counted twice, intervals
of three seeds were 1.5 times too wide. Seeds are too few to say it for one method, so the share (coefficient
of variation) is pooled over the methods of a table and pulled towards that of earlier rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.significance.clusters import Clusters
from bench.types import FloatArray, IntArray

PRIOR = 0.06  # standard deviation of a fit over its mean, where a table says nothing of it
PRIOR_FREEDOM = 2


@dataclass(frozen=True, eq=False)
class Fits:
    """Variance between fits, relative to the squared mean.

    Attributes:
        between_M: B, variance of one seed's mean as observed; nan where there is one seed.
        within_M: W, the part of it that is the rows'; nan where there is one seed.
        variance: kappa squared, pooled over methods; B - W over the squared mean.
        weight: A, its precision; ``2 / A`` is the variance of the estimate.
        within_share: mean W over the squared mean of these; 0 where there is none.
        lines: methods with several seeds that it was pooled from.
        prior: the coefficient of variation that it was pulled towards.
        observed: B over the squared mean, pooled likewise.
    """

    between_M: FloatArray
    within_M: FloatArray
    variance: float
    weight: float
    within_share: float
    lines: int
    prior: float
    observed: float

    @property
    def one_fit(self) -> float:
        """Coefficient of variation of one fit's mean on given rows: B pooled as B - W is for ``variance``.

        For comparisons on the very same rows, where nothing else differs. Without methods of several seeds it
        is the prior.
        """
        return math.sqrt(self.observed)


def between(gain_MSQ: Sequence[FloatArray]) -> FloatArray:
    """B, the variance of the seeds' means, float [M]; nan where there is one seed."""
    return np.array(
        [gain_SQ.mean(axis=1).var(ddof=1) if len(gain_SQ) > 1 else np.nan for gain_SQ in gain_MSQ]
    )


def within(
    clusters: Sequence[Clusters], total: Sequence[FloatArray], seeds_M: IntArray
) -> FloatArray:
    """W, the variance of one seed's mean that comes from the rows, float [M]; nan where there is one seed.

    Args:
        clusters: users; or users, titles and cells.
        total: for each of them the sums of gains, float [G, C], one column a fit, method after method.
        seeds_M: fits of each method.
    """
    owner_C = np.repeat(np.arange(len(seeds_M)), seeds_M)
    several_C = seeds_M[owner_C] > 1
    residual = [
        c.influence(total_GC[:, several_C] - means(total_GC, seeds_M)[:, owner_C[several_C]])
        for c, total_GC in zip(clusters, total, strict=True)
    ]
    users, titles = _variances(residual)
    found_M = np.bincount(owner_C[several_C], users + titles, len(seeds_M))
    return np.where(seeds_M > 1, found_M / np.maximum(seeds_M - 1, 1), np.nan)


def _variances(influence: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """V_U and V_q - V_U of single columns; as ``Sources.parts``, without products of columns."""

    def read(influence_GC: FloatArray) -> FloatArray:
        return (influence_GC**2).sum(axis=0) * (len(influence_GC) - 1) / len(influence_GC)

    users = read(influence[0])
    if len(influence) == 1:
        return users, np.zeros_like(users)
    return users, np.maximum(read(influence[1]) - read(influence[2]), 0.0)


def means(total_GC: FloatArray, seeds_M: IntArray) -> FloatArray:
    """Averages over the fits of each method, float [G, M].

    Args:
        total_GC: sums of gains by cluster, one column a fit, method after method.
        seeds_M: fits of each method.
    """
    if len(seeds_M) == total_GC.shape[1]:
        return total_GC
    return total_GC @ np.repeat(np.diag(1 / seeds_M), seeds_M, axis=0)


def pool(
    between_M: FloatArray,
    within_M: FloatArray,
    mean_M: FloatArray,
    seeds_M: IntArray,
    prior: float = PRIOR,
) -> Fits:
    """Pool what fits differ by over methods, relative to their means.

    ``variance = max(0, (Σ a (b - w) + a0 k0²) / A)`` with ``b = B / X²``, ``w = W / X²``, weights
    ``a = (S - 1) / (w + k0²)²`` and ``a0 = 2 / k0⁴`` of the prior k0, and ``A = Σ a + a0``.

    Args:
        between_M: B; nan for methods that are not to be pooled.
        within_M: W.
        mean_M: X; a method that hit nothing is left out.
        seeds_M: S.
        prior: k0, the coefficient of variation of fits elsewhere.
    """
    use_M = np.isfinite(between_M) & (mean_M > 0)
    square_M = mean_M[use_M] ** 2
    b, w = between_M[use_M] / square_M, within_M[use_M] / square_M
    a = (seeds_M[use_M] - 1) / (w + prior**2) ** 2
    a0 = PRIOR_FREEDOM / prior**4
    weight = float(a.sum() + a0)
    pooled = max(0.0, float((a * (b - w)).sum() + a0 * prior**2) / weight)
    observed = float((a * b).sum() + a0 * prior**2) / weight
    share = float(w.mean()) if len(w) else 0.0
    return Fits(between_M, within_M, pooled, weight, share, len(w), prior, observed)
