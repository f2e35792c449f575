"""The words of a comparison with a published number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from bench.significance.equivalence import equivalence, margin


@pytest.mark.parametrize(
    ("ratio", "se", "word"),
    [
        (1.0, 0.05, "reproduced"),
        (1.0, 0.2, "undecided"),  # not different, which is not the same
        (0.9, 0.04, "close"),  # inside the margin, and different
        (0.7, 0.06, "lower"),
        (1.4, 0.06, "higher"),
        (0.87, 0.08, "undecided"),
        (0.0, 0.1, "undecided"),
    ],
)
def test_words(ratio, se, word):
    assert equivalence(0.02 * ratio, 0.02, se) == word


def test_half_a_printed_unit_goes_against_every_word():
    assert equivalence(0.008, 0.010, 0.1) == "lower"
    assert equivalence(0.008, 0.010, 0.1, unit=0.001) == "undecided"
    assert equivalence(0.010, 0.010, 0.1) == "reproduced"
    assert equivalence(0.010, 0.010, 0.1, unit=0.001) == "undecided"


def test_eighty_per_cent_power_needs_the_stated_error():
    rng = np.random.default_rng(0)
    for within, se in ((1.2, 0.062), (1.12, 0.039)):
        off = np.exp(se * rng.standard_normal(1000))
        words = [equivalence(x, 1.0, se, within=within) for x in off]
        assert np.mean(np.isin(words, ["reproduced", "close"])) == pytest.approx(0.8, abs=0.03)


def test_the_interval_is_that_of_two_one_sided_tests():
    se = math.log(1.2) / norm.isf(0.05)  # at a ratio of 1 the interval just fits
    assert equivalence(1.0, 1.0, 0.999 * se) == "reproduced"
    assert equivalence(1.0, 1.0, 1.001 * se) == "undecided"


def test_the_margin_keeps_the_order_of_two_reproduced_numbers():
    assert margin(1.25) == pytest.approx(math.sqrt(1.25))
    assert margin(3.0) == 1.2
