"""Sums over clusters of rows, and the variance of means that they give.

Rows of one user, and rows with one target title, are not independent, so a mean's variance is taken from
sums over clusters. With G clusters, of which k holds n_k of n rows, the influence of k on the mean X of
gains g is that of leaving it out (the jackknife)::

    q_k = sum over its rows (g - X) / n / (1 - n_k / n),    variance = (G - 1) / G * sum of q_k ** 2

Axes: Q rows, G clusters, M methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from bench.types import FloatArray, IntArray

NOTHING = 1e-12  # share of a variance or of a gap below which it is rounding


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which cluster each row is in.

    Attributes:
        label_G: what the rows of a cluster have in common, ascending.
        index_Q: 0 .. G - 1.
        rows_G: rows of each cluster.
    """

    label_G: IntArray
    index_Q: IntArray
    rows_G: IntArray

    @classmethod
    def of(cls, label_Q: IntArray) -> Clusters:
        """Rows with equal labels form one cluster."""
        return cls(*np.unique(label_Q, return_inverse=True, return_counts=True))

    def crossed(self, other: Clusters) -> Clusters:
        """The cells: rows that are alike in both."""
        return Clusters.of(self.index_Q.astype(np.int64) * len(other) + other.index_Q)

    def __len__(self) -> int:
        return len(self.rows_G)

    @property
    def effective(self) -> float:
        """n² / Σ n_k²: how many clusters of equal size would be as uneven."""
        return float(self.rows_G.sum() ** 2 / (self.rows_G.astype(np.float64) ** 2).sum())

    def sums(self, value_QM: FloatArray) -> FloatArray:
        """Sum over the rows of each cluster, float [G, M]."""
        order = np.argsort(self.index_Q, kind="stable")
        starts = np.concatenate([[0], np.cumsum(self.rows_G)])
        ones = np.ones(len(order))
        adder = sparse.csr_matrix((ones, order, starts), (len(self), len(order)))
        return np.asarray(adder @ value_QM)

    def influence(self, total_GM: FloatArray) -> FloatArray:
        """Influence of each cluster on the means, given its sums; zero where there is one cluster."""
        n = int(self.rows_G.sum())
        if len(self) < 2:
            return np.zeros_like(total_GM)
        off_GM = np.outer(self.rows_G, total_GM.sum(axis=0) / -n)
        off_GM += total_GM
        off_GM *= (1 / (n - self.rows_G))[:, None]
        return off_GM


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums of products of influences, from which means and all pairs have their variances without a draw.

    Attributes:
        clusters: G.
        square_MM: Σ q_i q_j.
        cube_MM: Σ q_i³ q_j.
        pair_MM: Σ q_i² q_j².
    """

    clusters: int
    square_MM: FloatArray
    cube_MM: FloatArray
    pair_MM: FloatArray

    @classmethod
    def of(cls, influence_GM: FloatArray) -> Moments:
        """Of the influences of the clusters on M means."""
        square_GM = influence_GM**2
        cube_MM = (square_GM * influence_GM).T @ influence_GM
        return cls(
            len(influence_GM), influence_GM.T @ influence_GM, cube_MM, square_GM.T @ square_GM
        )

    def scaled(self, scale_M: FloatArray) -> Moments:
        """Those of the means times a constant each; 1 / X gives those of their logarithms."""
        by_MM, square_M = scale_M[:, None] * scale_M, scale_M**2
        return Moments(
            self.clusters,
            self.square_MM * by_MM,
            self.cube_MM * by_MM * square_M[:, None],
            self.pair_MM * by_MM**2,
        )

    @cached_property
    def of_means(self) -> tuple[FloatArray, FloatArray]:
        """Variance of each mean and its effective clusters, float [M]."""
        return self._variance(np.diag(self.square_MM), np.diag(self.pair_MM))

    @cached_property
    def of_pairs(self) -> tuple[FloatArray, FloatArray]:
        """Variance of each difference of two means and its effective clusters, float [M, M].

        Σ (q_i - q_j)⁴ = f_i + f_j - 4 Σ q_i³ q_j - 4 Σ q_i q_j³ + 6 Σ q_i² q_j², with f = Σ q⁴.
        """
        own_M, fourth_M = np.diag(self.square_MM), np.diag(self.pair_MM)
        both_MM = own_M[:, None] + own_M
        apart_MM = both_MM - 2 * self.square_MM
        apart_MM = np.where(apart_MM > NOTHING * both_MM, apart_MM, 0.0)
        fourth_MM = fourth_M[:, None] + fourth_M + 6 * self.pair_MM
        fourth_MM -= 4 * (self.cube_MM + self.cube_MM.T)
        return self._variance(apart_MM, fourth_MM)

    def _variance(self, square: FloatArray, fourth: FloatArray) -> tuple[FloatArray, FloatArray]:
        variance = square * ((self.clusters - 1) / max(self.clusters, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            effective = np.where(square > 0, square**2 / fourth, 0.0)
        # a sum of fourth powers lies between its square over G and its square: beyond is rounding
        effective = np.where(np.isfinite(effective) & (effective >= 0), effective, 1.0)
        return variance, np.where(square > 0, np.clip(effective, 1.0, self.clusters), 0.0)
