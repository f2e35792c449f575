"""Lines over several tables: who is ranked, and who is ahead."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.significance.overall import LogPairs, over_tables
from bench.significance.two_way import two_way


def a_table(levels, seed, n=600):
    rng = np.random.default_rng(seed)
    gains = [(level * rng.random(n))[None] for level in levels]
    return two_way(gains, np.arange(n), np.arange(n), chance_M=False)


def test_a_line_of_one_table_is_not_ranked():
    tables = [a_table([0.3, 0.2, 0.9], 0), a_table([0.3, 0.2], 1)]
    found = over_tables([LogPairs.of(t) for t in tables], np.array([[0, 0], [1, 1], [2, -1]]))
    assert found.ranked_R.tolist() == [0, 1]
    assert found.tables_A.tolist() == [2, 2, 1]
    assert (found.first_R.tolist(), found.last_R.tolist()) == ([1, 2], [1, 2])


def test_places_may_differ_between_tables():
    tables = [a_table([0.3, 0.2], 0), a_table([0.2, 0.3], 1)]
    found = over_tables([LogPairs.of(t) for t in tables], np.array([[0, 1], [1, 0]]))
    assert found.ahead_RR.tolist() == [[False, True], [False, False]]


def test_separated_the_other_way_on_one_table_is_not_ahead():
    tables = [a_table([0.9, 0.2], 0), a_table([0.2, 0.3], 1)]
    found = over_tables([LogPairs.of(t) for t in tables], np.array([[0, 0], [1, 1]]))
    assert found.p_RR[0, 1] < 0.05
    assert not found.ahead_RR.any()


def test_one_table_is_the_test_of_the_logarithms():
    table = a_table([0.3, 0.29], 3)
    found = over_tables([LogPairs.of(table)], np.array([[0], [1]]))
    gap = np.log(table.mean_M[0] / table.mean_M[1])
    assert found.p_RR[0, 1] == pytest.approx(table.of_log_pairs.p(np.full((2, 2), gap))[0, 1])
    assert found.log_mean_R == pytest.approx(np.log(table.mean_M))


def test_two_equal_tables_halve_the_variance():
    table = a_table([0.3, 0.29], 3)
    found = over_tables([LogPairs.of(table)] * 2, np.array([[0, 0], [1, 1]]))
    spread, gap = table.of_log_pairs.at((0, 1)), np.log(table.mean_M[0] / table.mean_M[1])
    t = abs(gap) / np.sqrt(spread.total / 2)
    assert found.p_RR[0, 1] == pytest.approx(2 * stats.t.sf(t, 2 * spread.freedom))


def test_a_line_without_a_hit_has_no_logarithm():
    table = a_table([0.3, 0.0], 0)
    found = over_tables([LogPairs.of(table)], np.array([[0], [1]]))
    assert found.ranked_R.tolist() == [0]
