"""Are two numbers the same within a margin? Two one-sided tests on their ratio (Schuirmann, 1987).

Not to be different is not to be the same: with few rows nothing differs from anything. A number is called
reproduced only where the 90 % interval of the ratio lies within the margin, and the data decide nothing where
it does not and the 95 % interval holds 1.
"""

from __future__ import annotations

import math
from typing import Literal

from scipy import stats as scipy_stats

from bench.significance.intervals import ALPHA

MARGIN = 1.2
Word = Literal["reproduced", "close", "lower", "higher", "undecided"]


def margin(to_runner_up: float) -> float:
    """D: two reproduced numbers keep their order; from the published ratio of a value to its runner-up."""
    assert to_runner_up >= 1, "the larger over the smaller"
    return min(MARGIN, math.sqrt(to_runner_up))


def equivalence(
    ours: float,
    theirs: float,
    se: float,
    *,
    within: float = MARGIN,
    unit: float = 0.0,
    alpha: float = ALPHA,
) -> Word:
    """Compare two positive numbers.

    ``reproduced``: the 90 % interval of ours / theirs lies inside [1 / D, D]; ``close``: that, and the 95 %
    interval excludes 1; ``lower`` and ``higher``: it excludes 1 and the other does not lie inside.

    Args:
        ours: the number to be judged.
        theirs: what it is compared with.
        se: standard error of the difference of their logarithms.
        within: D, the margin, fixed before the run.
        unit: last printed unit of theirs; half of it counts against every word.
        alpha: level of both tests.
    """
    if ours <= 0:
        return "undecided"
    lowest = math.log(ours / (theirs + unit / 2))
    highest = math.log(ours / max(theirs - unit / 2, 1e-12))
    one_sided, two_sided = (se * float(scipy_stats.norm.isf(a)) for a in (alpha, alpha / 2))
    inside = lowest - one_sided >= -math.log(within) and highest + one_sided <= math.log(within)
    below, above = highest + two_sided < 0, lowest - two_sided > 0
    if inside:
        return "close" if below or above else "reproduced"
    return "lower" if below else "higher" if above else "undecided"
