"""Whitening of title vectors: directions that all titles share are taken out before anything is learned.

Raw vectors of titles point the same way (a mean cosine above .8 for language models), so distances between
them say little. With the mean mu and the covariance S = U diag(l) U^T over the distinct titles F of a fit
set, and eps = 1e-3 mean(l) so that directions without variance are not blown up:

- ``center``: e - mu
- ``zca``: (e - mu) U diag(l + eps)^-1/2 U^T, in the coordinates of the encoder
- ``pca``: (e - mu) U_r diag(l_r + eps)^-1/2, the r directions of largest variance

Sources: WhitenRec (arXiv 2402.10602) for the measure and the use; the eps, the fit over distinct titles and
leaving the padding row out are ours.

Axes: F distinct titles of the fit set, N items, D width of the encoder, R width after whitening.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.errors import ConfigError, DataError
from bench.types import BoolArray, Catalogue, FloatArray, IntArray

Whiten = Literal["none", "center", "pca", "zca"]
FitOn = Literal["seen", "all"]
EPS = 1e-3  # of the mean variance of a direction
BLOCK = 256  # vectors multiplied at a time
WIDTH = 128  # most directions that pca keeps unless it is told


@dataclass(frozen=True, eq=False)
class Whitening:
    """A fitted map z = (e - mean) matrix.

    Attributes:
        mean_D: mean of the fit set, float64 [D].
        matrix_DR: what a centred vector is multiplied with, float64 [D, R].
    """

    mean_D: npt.NDArray[np.float64]
    matrix_DR: npt.NDArray[np.float64]

    def __call__(self, vector_ND: FloatArray) -> npt.NDArray[np.float32]:
        """Whitened vectors, float32 [N, R]; zeros (no title) stay zeros.

        Blocks always have the same shape, so that a row depends on no other and equal rows stay equal.
        """
        count = len(vector_ND)
        white_NR = np.zeros((count, self.matrix_DR.shape[1]), np.float32)
        for start in range(0, count, BLOCK):
            block_BD = np.zeros((BLOCK, len(self.mean_D)))
            part = vector_ND[start : start + BLOCK]
            block_BD[: len(part)] = part - self.mean_D
            white_NR[start : start + BLOCK] = (block_BD @ self.matrix_DR)[: len(part)]
        white_NR[~vector_ND.any(1)] = 0
        return white_NR


def fit_whitening(vector_FD: FloatArray, kind: Whiten, width: int | None = None) -> Whitening:
    """The whitening of a set of vectors, fitted in float64.

    Args:
        vector_FD: one vector for each distinct title, see ``fit_titles``.
        kind: see the head of this file; ``none`` changes nothing.
        width: R of ``pca``; None for the largest that 128, D and F - 1 allow.

    Raises:
        DataError: fewer than two titles.
        ConfigError: ``width`` is more than D or F - 1, or is given with another kind than ``pca``.
    """
    n_titles, dims = vector_FD.shape
    if n_titles < 2 and kind != "none":
        raise DataError(f"whiten {kind!r} needs two distinct titles, the fit set has {n_titles}")
    if width is not None and kind != "pca":
        raise ConfigError(f"width is {width} with whiten {kind!r}; only pca chooses a width")
    most = min(dims, n_titles - 1)
    if width is not None and width > most:
        raise ConfigError(
            f"width is {width}, but {n_titles} distinct titles of {dims} numbers allow at most {most}"
        )
    vector_FD = vector_FD.astype(np.float64)
    if kind == "none":
        return Whitening(np.zeros(dims), np.eye(dims))
    mean_D = vector_FD.mean(0)
    if kind == "center":
        return Whitening(mean_D, np.eye(dims))
    variance_D, basis_DD = _directions(vector_FD - mean_D)
    scale_D = (variance_D + EPS * variance_D.mean()) ** -0.5
    if kind == "zca":
        return Whitening(mean_D, (basis_DD * scale_D) @ basis_DD.T)
    kept = min(WIDTH, most) if width is None else width
    return Whitening(mean_D, basis_DD[:, :kept] * scale_D[:kept])


def _directions(centred_FD: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Variances, largest first, and their directions as columns, each with its largest entry positive."""
    variance_D, basis_DD = np.linalg.eigh(centred_FD.T @ centred_FD / len(centred_FD))
    variance_D, basis_DD = variance_D[::-1].clip(min=0), basis_DD[:, ::-1]
    largest_D = np.abs(basis_DD).argmax(0)
    return variance_D, basis_DD * np.sign(basis_DD[largest_D, np.arange(len(largest_D))])


def fit_titles(catalogue: Catalogue, seen: BoolArray | None) -> IntArray:
    """One item for each distinct title of a fit set, in the order of the titles, int64 [F].

    Items without a title are in no fit. The order is that of the text, so that no result depends on how
    items are numbered.

    Args:
        catalogue: the titles.
        seen: bool [N + 1], the items that count; None for all.
    """
    first: dict[str, int] = {}
    for item in range(1, len(catalogue.titles)):
        title = catalogue.titles[item].strip()
        if title and (seen is None or seen[item]):
            first.setdefault(title, item)
    return np.array([first[title] for title in sorted(first)], np.int64)


def require_finite(vector_ND: FloatArray, titles: Sequence[str]) -> None:
    """Refuse vectors with infinite or undefined entries.

    Args:
        vector_ND: by item id.
        titles: by item id.

    Raises:
        DataError: names the first title whose vector is not finite.
    """
    bad = np.flatnonzero(~np.isfinite(vector_ND).all(1))
    if len(bad):
        raise DataError(
            f"the vector of title {titles[bad[0]]!r} (item {bad[0]}) is not finite, and those of "
            f"{len(bad) - 1} others; encode the titles again or with another text_encoder"
        )


def mean_cosine(vector_ND: FloatArray) -> float:
    """Mean cosine of all pairs of different rows; rows of zeros do not count, 0 for fewer than two."""
    length_N = np.linalg.norm(vector_ND.astype(np.float64), axis=1)
    unit_ND = vector_ND[length_N > 0] / length_N[length_N > 0, None]
    count = len(unit_ND)
    if count < 2:
        return 0.0
    return float((np.square(unit_ND.sum(0)).sum() - count) / (count * (count - 1)))
