"""Residual quantisation by fixed codebooks, and codebooks by k-means.

r_0 = x; c_l = the nearest centroid of level l; r_{l+1} = r_l - centroid. T rows, L levels, K codes, D width.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from bench.errors import ConfigError
from bench.types import FloatArray, IntArray

RESTARTS, ROUNDS = 4, 100  # of each k-means


@dataclass(frozen=True, eq=False)
class Quantised:
    """Vectors as codes.

    Attributes:
        code_TL: the codes, int64.
        residual_LTD: what level l had to describe, float64; one entry more for what is left in the end.
    """

    code_TL: IntArray
    residual_LTD: npt.NDArray[np.float64]

    @property
    def error_L(self) -> FloatArray:
        """Mean squared length of each residual, [L + 1]; the first is that of the vectors themselves."""
        return np.square(self.residual_LTD).sum(2).mean(1)


def nearest(row_TD: FloatArray, centre_KD: FloatArray) -> IntArray:
    """The nearest centroid of each row, ties to the lower number; no row depends on another, int64 [T].

    Args:
        row_TD: the rows.
        centre_KD: the centroids.
    """
    # each distance by subtraction in float64: a matrix product rounds by the shape of its batch
    return cdist(row_TD.astype(np.float64), centre_KD, "sqeuclidean").argmin(1)


def quantise(row_TD: FloatArray, centre_LKD: FloatArray) -> Quantised:
    """The codes of vectors under codebooks.

    Args:
        row_TD: the vectors.
        centre_LKD: centroids of each level.
    """
    residuals, codes = [row_TD.astype(np.float64)], []
    for centre_KD in centre_LKD:
        codes.append(nearest(residuals[-1], centre_KD))
        residuals.append(residuals[-1] - centre_KD[codes[-1]])
    return Quantised(np.stack(codes, 1), np.stack(residuals))


def kmeans_codebooks(
    row_FD: FloatArray, *, levels: int, codes: int, seed: int
) -> npt.NDArray[np.float64]:
    """Codebooks by k-means of the residuals, level by level, float64 [L, K, D].

    Args:
        row_FD: vectors to fit, in an order that does not depend on item ids.
        levels: L.
        codes: K.
        seed: of the first centroids.

    Raises:
        ConfigError: fewer distinct vectors than K.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    distinct = len(np.unique(row_FD, axis=0))
    if distinct < codes:
        raise ConfigError(
            f"codes is {codes}, but the titles to fit have {distinct} distinct vectors; set codes to at most "
            f"{distinct}"
        )
    residual_FD, books = row_FD.astype(np.float64), []
    for level in range(levels):
        model = KMeans(codes, n_init=RESTARTS, max_iter=ROUNDS, random_state=seed + level)
        with warnings.catch_warnings():
            # residuals that have become equal leave codes of later levels unused
            warnings.simplefilter("ignore", ConvergenceWarning)
            centre_KD = model.fit(residual_FD).cluster_centers_
        residual_FD = residual_FD - centre_KD[nearest(residual_FD, centre_KD)]
        books.append(centre_KD)
    return np.stack(books)
