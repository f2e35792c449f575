"""How a mean is spread over titles, on tables small enough to check by eye."""

from __future__ import annotations

import numpy as np
import pytest

from bench.significance.two_way import two_way


def measured(gain_Q, title_Q):
    found = two_way([np.asarray(gain_Q, float)[None]], np.arange(len(gain_Q)), np.asarray(title_Q))
    return found.concentration(0)


def test_five_titles_by_hand():
    #         title 4: .9       5: .5     6: .4     7: .2     8: none
    found = measured([0.5, 0.4, 0.5, 0.0, 0.4, 0.0, 0.2, 0.0], [4, 4, 5, 5, 6, 6, 7, 8])
    assert found.hit == 4
    assert (found.largest, found.rows) == ((4, 5, 6), (2, 2, 2))
    assert found.top3 == pytest.approx(1.8 / 2.0)
    squared = (0.9**2 + 0.5**2 + 0.4**2 + 0.2**2) / 2.0**2
    assert found.effective == pytest.approx(1 / squared)
    assert found.without_top3 == pytest.approx(0.2 / 2)
    # without title 4 the mean is 1.1 / 6, with it 2 / 8
    assert found.influence == pytest.approx((2 / 8 - 1.1 / 6) / (2 / 8))
    even = (0.5**2 + 0.4**2 + 0.5**2 + 0.4**2 + 0.2**2) / 2.0**2
    rows = (4 + 4 + 4 + 1 + 1) / 8**2
    assert found.excess == pytest.approx(squared / (even + (1 - even) * rows))
    assert found.badge == "hangs on few titles"


def test_an_even_method_has_no_badge():
    found = measured(np.full(100, 0.1), np.arange(100))
    assert found.effective == pytest.approx(100)
    assert found.excess < 1
    assert (found.badge, found.cause) == ("", "")


def test_what_the_rows_themselves_do_is_not_the_method():
    title_Q = np.concatenate(
        [np.zeros(32, int), np.arange(1, 69)]
    )  # one title has 32 % of the rows
    found = measured(np.full(100, 0.1), title_Q)
    assert (found.badge, found.cause) == ("concentrated", "by the test set")
    gain_Q = np.where(title_Q == 5, 1.0, 0.001)
    assert measured(gain_Q, title_Q).badge == "hangs on few titles"


def test_hits_of_one_title_out_of_many_rows_are_by_the_method():
    title_Q = np.repeat(np.arange(200), 10)
    gain_Q = np.where(title_Q == 5, 1.0, np.where(np.arange(2000) % 10 == 0, 0.01, 0.0))
    assert measured(gain_Q, title_Q).cause == "by the method"


def test_nothing_was_hit():
    found = measured(np.zeros(10), np.arange(10))
    assert (found.hit, found.largest, found.badge) == (0, (), "")


def test_random_hits_have_an_excess_of_one():
    rng, title_Q = np.random.default_rng(0), np.minimum(np.arange(3000) // 7, 250)
    found = [measured(rng.random(3000) < 0.05, title_Q).excess for _ in range(40)]
    assert np.mean(found) == pytest.approx(1, abs=0.03)
