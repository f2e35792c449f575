"""Power against drawing, and rows and seeds that undo the gap they find."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from bench.significance.power import (
    detectable_gap,
    median_se,
    more_rows,
    more_seeds,
    pair_variances,
)
from bench.significance.two_way import two_way


def a_table(seed=0, n_seeds=3, n=400):
    rng = np.random.default_rng(seed)
    gains = [rng.random((n_seeds, n)) + 0.1 * rng.standard_normal((n_seeds, 1)) for _ in range(3)]
    title_Q = rng.integers(0, 20, n)
    gains[0] += 0.5 * rng.random(20)[title_Q]  # targets that one method likes
    return two_way(gains, rng.integers(0, 150, n), title_Q)


@pytest.mark.parametrize("pairs", [1, 28])
def test_the_detectable_gap_is_found_four_times_in_five(pairs):
    rng = np.random.default_rng(6)
    gap = detectable_gap(0.1, pairs=pairs)
    z = abs((gap + 0.1 * rng.standard_normal(200_000)) / 0.1)
    assert np.mean(z > norm.isf(0.025 / pairs)) == pytest.approx(0.8, abs=0.005)


def test_nothing_changed_is_what_was_measured():
    table = a_table()
    same = pair_variances(table, rows=table.n, seeds=3)
    above = np.triu_indices(3, 1)
    np.testing.assert_allclose(same[above], table.of_pairs.total[above])
    assert median_se(table) == pytest.approx(np.sqrt(np.median(same[above])))


def test_the_parts_shrink_with_what_they_are_made_of():
    table = a_table()
    found, w = table.of_pairs.at((0, 1)), table.fits.within_M
    twice_rows = pair_variances(table, rows=2 * table.n)[0, 1]
    assert twice_rows == pytest.approx((found.users + found.titles) / 2 + found.fits)
    same_titles = pair_variances(table, rows=2 * table.n, new_titles=False)[0, 1]
    assert same_titles == pytest.approx(found.users / 2 + found.titles + found.fits)
    six_seeds = pair_variances(table, seeds=6)[0, 1]
    rows = found.users + found.titles + (w[0] + w[1]) * (1 / 6 - 1 / 3)
    assert six_seeds == pytest.approx(rows + found.fits / 2)


@pytest.mark.parametrize("new_titles", [True, False])
def test_rows_needed_undo_the_gap_found(new_titles):
    table = a_table()
    for rows in (table.n, 3 * table.n):
        variance = pair_variances(table, rows=rows, new_titles=new_titles)[0, 1]
        gap = detectable_gap(np.sqrt(variance), pairs=3)
        needed = more_rows(table, (0, 1), gap, pairs=3, new_titles=new_titles)
        assert needed.number == pytest.approx(rows, abs=1)


def test_seeds_needed_undo_the_gap_found():
    table = a_table()
    for seeds in (1, 3, 7):
        gap = detectable_gap(np.sqrt(pair_variances(table, seeds=seeds)[0, 1]))
        assert more_seeds(table, (0, 1), gap).number == seeds


def test_what_no_number_of_rows_or_seeds_shows():
    table = a_table()
    found = table.of_pairs.at((0, 1))
    tiny = detectable_gap(np.sqrt(found.fits * 0.9))
    assert more_rows(table, (0, 1), tiny).lacks == "more seeds"
    fixed = two_way(
        table.inputs.gain_MSQ, table.inputs.user_Q, table.inputs.title_Q, chance_M=False
    )
    tiny = detectable_gap(np.sqrt(fixed.of_pairs.titles[0, 1] * 0.9))
    assert more_rows(fixed, (0, 1), tiny, new_titles=False).lacks == "more titles"
    assert more_seeds(table, (0, 1), tiny * 1e-3).lacks == "more rows"
