"""How often the statistics are wrong where the truth is known; speed/calibrate_statistics prints more."""

from __future__ import annotations

import numpy as np
import pytest

from bench.significance.two_way import two_way
from speed.calibrate_statistics import judged
from speed.simulated_gains import Family, seeds_of, true_mean, zipf_structure

ROWS = zipf_structure(4383, users=3412, titles=1078)


def draws(family, n, seed=0):
    rng = np.random.default_rng(seed)
    return (ROWS.draw(rng, family) for _ in range(n))


def test_simulated_gains_have_the_mean_they_claim():
    for design in ("shared", "titles"):
        family = Family(design, (1,) * 4, 0.05)
        mean = np.mean([np.mean(gains) for gains in draws(family, 40)])
        assert mean == pytest.approx(true_mean(design, 0.05), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["shared", "titles"])
@pytest.mark.parametrize("seeds", ["1", "3", "mixed"])
def test_equal_methods_are_rarely_separated_and_intervals_cover(design, seeds):
    family, truth = Family(design, seeds_of(seeds, 12), 0.05), true_mean(design, 0.05)
    found = np.mean([judged(gains, ROWS, truth) for gains in draws(family, 200)], axis=0)
    eight, twelve, pair, gaps, means = found[:5]
    assert max(eight, twelve) <= 0.08
    assert pair <= 0.07
    assert 0.93 <= gaps <= 0.995
    assert 0.91 <= means <= 0.98


@pytest.mark.slow
def test_three_seeds_find_a_method_that_is_better_by_two_fifths():
    family = Family("shared", (3, 3), 0.05, better=1.4)
    p = [
        two_way(gains, ROWS.user_Q, ROWS.title_Q).difference(0, 1).p for gains in draws(family, 200)
    ]
    assert np.mean(np.array(p) < 0.05) >= 0.92
