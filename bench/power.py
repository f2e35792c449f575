"""What gap a number of test rows can show, and how many rows a gap needs."""

from __future__ import annotations

import numpy as np
from scipy import stats as scipy_stats

from bench.stats import ALPHA


def detectable_gap(
    sd: float, n: int, *, rho: float = 0.5, power: float = 0.8, alpha: float = ALPHA
) -> float:
    """Smallest true gap that a paired comparison of two means finds with the given power.

    ``(z_(1 - alpha/2) + z_power) * sd * sqrt(2 (1 - rho) / n)``, in the unit of ``sd``.

    Args:
        sd: standard deviation of one method's per-row gains; ``se * sqrt(n)`` where rows are clustered.
        n: rows.
        rho: correlation of the two methods' gains.
        power: chance to find the gap.
        alpha: level of the two-sided test.
    """
    return _reach(power, alpha) * sd * float(np.sqrt(2 * (1 - rho) / n))


def rows_needed(
    sd: float, gap: float, *, rho: float = 0.5, power: float = 0.8, alpha: float = ALPHA
) -> int:
    """Rows a paired comparison needs to find ``gap`` with the given power; undoes ``detectable_gap``."""
    return int(np.ceil(2 * (1 - rho) * (_reach(power, alpha) * sd / gap) ** 2))


def _reach(power: float, alpha: float) -> float:
    return float(scipy_stats.norm.ppf(1 - alpha / 2) + scipy_stats.norm.ppf(power))
