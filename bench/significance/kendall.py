"""Whether two lists of scores order the same methods alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy import stats as scipy_stats


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two lists of scores of the same methods; nan for fewer than two of them.

    Args:
        first: scores of the methods.
        second: other scores of them, in the same order.
    """
    if len(first) < 2:
        return float("nan")
    result: Any = scipy_stats.kendalltau(first, second)
    return float(result.statistic)


def kendall_bounds(agree: int, against: int, pairs: int) -> tuple[float, float]:
    """Bounds of tau that hold with the level of the separations; noise alone pulls tau to 0.

    Args:
        agree: pairs that are separated and ordered as in the other list.
        against: pairs that are separated and ordered the other way.
        pairs: all pairs.
    """
    return (2 * agree - pairs) / pairs, (pairs - 2 * against) / pairs
