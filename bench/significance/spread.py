"""How far a mean, or a difference of two, may be off: its variance by source, and degrees of freedom.

Test rows come from users and from target titles at once. The variance over both is ``V_U + V_T - V_I``,
where V_I is that of the user-title cells, which the first two both count (Cameron, Gelbach and Miller,
2011); it is never taken to be less than V_U. What fits add is apart from it (``seeds``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from scipy import stats as scipy_stats

from bench.significance.clusters import Moments
from bench.types import FloatArray

Scope = Literal["this fit", "these targets", "targets like these"]
"""What is thought of as drawn anew: users; users and fits; users, titles and fits."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Variance by source; all arrays of one shape, one entry a mean or a pair.

    Attributes:
        users: V_U.
        titles: what targets add to it, V_q - V_U; 0 where they are not drawn anew.
        luck: of random lists that are scored by their expectation.
        fits: of training.
        few_users, few_titles: effective clusters; infinite where titles are not drawn anew.
        fits_doubt: half the variance of ``fits`` as an estimate.
    """

    users: FloatArray
    titles: FloatArray
    luck: FloatArray
    fits: FloatArray
    few_users: FloatArray
    few_titles: FloatArray
    fits_doubt: FloatArray

    def at(self, place: tuple[int, ...]) -> Spread:
        """One entry of it, as single numbers."""
        return Spread(*(getattr(self, part.name)[place] for part in fields(self)))

    @property
    def rows(self) -> FloatArray:
        """V_q, the part that more test rows would lessen."""
        return self.users + self.titles

    @property
    def total(self) -> FloatArray:
        """All of it."""
        return self.users + self.titles + self.luck + self.fits

    @property
    def freedom(self) -> FloatArray:
        """Degrees of freedom (Satterthwaite), at least 1; 3 k - 2 for k effective clusters."""
        below = self.users**2 / np.maximum(3 * self.few_users - 2, 1)
        below = below + self.titles**2 / np.maximum(3 * self.few_titles - 2, 1)
        below = below + self.fits_doubt
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.where(below > 0, self.total**2 / below, np.inf)
        return np.maximum(freedom, 1.0)

    def reach(self, alpha: float) -> FloatArray:
        """Half the width of a t interval at level 1 - alpha."""
        return scipy_stats.t.ppf(1 - alpha / 2, self.freedom) * np.sqrt(self.total)

    def p(self, gap: FloatArray) -> FloatArray:
        """Two-sided p of a gap; 1 where the gap is nothing, 0 where only the variance is."""
        se = np.sqrt(self.total)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(se > 0, np.abs(gap) / se, np.where(gap == 0, 0.0, np.inf))
        return 2 * scipy_stats.t.sf(t, self.freedom)


@dataclass(frozen=True, eq=False)
class Sources:
    """Moments over users, titles and their cells; without titles only users are drawn anew."""

    users: Moments
    titles: Moments | None = None
    cells: Moments | None = None

    def scaled(self, scale_M: FloatArray) -> Sources:
        """Those of the means times a constant each."""
        return Sources(
            self.users.scaled(scale_M),
            self.titles and self.titles.scaled(scale_M),
            self.cells and self.cells.scaled(scale_M),
        )

    def parts(
        self, read: Callable[[Moments], tuple[FloatArray, FloatArray]]
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """V_U, V_q - V_U and the effective users and titles; ``read`` takes means or pairs."""
        users, few_users = read(self.users)
        if self.titles is None or self.cells is None:
            return users, np.zeros_like(users), few_users, np.full_like(users, np.inf)
        titles, few_titles = read(self.titles)
        cells, _ = read(self.cells)
        return users, np.maximum(titles - cells, 0.0), few_users, few_titles
