"""How many target titles a mean depends on, and the badge of a mean that depends on few.

The best line of a table can owe its rank to the three titles of a trilogy. With gains summed by title (G_t)
and their shares w_t: titles hit, the share of the three largest, ``1 / Σ w²`` titles of equal weight, and the
influence, the largest share by which leaving one title's rows out moves the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.significance.clusters import Clusters
from bench.types import FloatArray

Badge = Literal["hangs on few titles", "concentrated", ""]
BY_METHOD = 3.0  # excess above which it is the method, and not the test set, that is concentrated


@dataclass(frozen=True)
class Concentration:
    """How the gain behind a mean is distributed over target titles.

    Attributes:
        hit: distinct titles with any gain.
        top3: share of the gain that the three largest titles make.
        effective: titles of equal weight that would be as uneven; 0 without a hit.
        influence: largest change of the mean, as a share of it, when one title's rows are left out.
        without_top3: the mean over the rows of all other titles.
        excess: Σ w² over what as many hits on random rows would give; the rows are uneven themselves.
        largest: title classes of the three largest, largest first, those without gain left out.
        rows: test rows of each of these.
    """

    hit: int
    top3: float
    effective: float
    influence: float
    without_top3: float
    excess: float
    largest: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def badge(self) -> Badge:
        """``hangs on few titles``, ``concentrated`` or nothing; a line that hangs is never called best."""
        if not self.hit:
            return ""
        if self.top3 >= 1 / 2 or self.effective < 8 or self.influence >= 0.3:
            return "hangs on few titles"
        return "concentrated" if self.top3 >= 1 / 3 or self.influence >= 0.15 else ""

    @property
    def cause(self) -> str:
        """Whether the method or the test set is the cause; empty where there is no badge."""
        if not self.badge:
            return ""
        return "by the method" if self.excess > BY_METHOD else "by the test set"


def concentrate(titles: Clusters, total_T: FloatArray, squares: float) -> Concentration:
    """Measure one method.

    Args:
        titles: the rows' target titles.
        total_T: sum of gains by title, averaged over seeds.
        squares: sum over rows of the squared gains, averaged over seeds first.
    """
    n, total = int(titles.rows_G.sum()), float(total_T.sum())
    if total <= 0:
        return Concentration(0, 0.0, 0.0, 0.0, 0.0, 0.0, (), ())
    share_T = total_T / total
    top = np.argsort(-total_T, kind="stable")[:3]
    top = top[total_T[top] > 0]
    left = n - int(titles.rows_G[top].sum())
    even = squares / total**2
    least = even + (1 - even) * float(((titles.rows_G / n) ** 2).sum())
    squared = float((share_T**2).sum())
    influence_T = titles.influence(total_T[:, None])[:, 0]
    return Concentration(
        hit=int((total_T > 0).sum()),
        top3=float(share_T[top].sum()),
        effective=1 / squared,
        influence=float(np.abs(influence_T).max()) / (total / n),
        without_top3=(total - float(total_T[top].sum())) / left if left else 0.0,
        excess=squared / least,
        largest=tuple(int(t) for t in titles.label_G[top]),
        rows=tuple(int(r) for r in titles.rows_G[top]),
    )
