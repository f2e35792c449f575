"""Kendall's tau and its bounds."""

from __future__ import annotations

import numpy as np
import pytest

from bench.significance.kendall import kendall, kendall_bounds


def test_kendall():
    assert kendall([1, 2, 3, 4], [1, 2, 3, 4]) == 1.0
    assert kendall([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert np.isnan(kendall([1], [1]))


def test_bounds_are_those_of_the_pairs_that_nothing_is_known_of():
    # of six pairs three are surely ordered alike, one surely not: the other two go either way
    assert kendall_bounds(3, 1, 6) == pytest.approx(((3 - 3) / 6, (5 - 1) / 6))
    assert kendall_bounds(0, 0, 6) == (-1, 1)
