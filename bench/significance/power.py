"""What gap a number of test rows can show, and how many rows a gap needs."""

from __future__ import annotations

import numpy as np
from scipy import stats as scipy_stats

from bench.significance.bootstrap import ALPHA


def detectable_gap(se: float, *, power: float = 0.8, alpha: float = ALPHA) -> float:
    """Smallest true gap that a comparison finds with the given power: ``(z_(1 - alpha/2) + z_power) se``.

    Args:
        se: standard error of the difference.
        power: chance to find the gap.
        alpha: level of the two-sided test.
    """
    return float(scipy_stats.norm.ppf(1 - alpha / 2) + scipy_stats.norm.ppf(power)) * se


def rows_needed(
    gap: float, n: int, se: float, seed_se: float = 0.0, *, power: float = 0.8, alpha: float = ALPHA
) -> int | None:
    """Rows at which a comparison finds ``gap`` with the given power; undoes ``detectable_gap``.

    Args:
        gap: true difference, not 0.
        n: rows that ``se`` was measured on.
        se: standard error of the difference.
        seed_se: the part of it that stays however many rows there are.
        power: chance to find the gap.
        alpha: level of the two-sided test.

    Returns:
        The number, or None if seeds alone differ too much for any.
    """
    left = (gap / detectable_gap(1.0, power=power, alpha=alpha)) ** 2 - seed_se**2
    return int(np.ceil(n * (se**2 - seed_se**2) / left)) if left > 0 else None
