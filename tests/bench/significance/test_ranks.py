"""Holm, rank bounds, and where a line stands without its largest title."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.significance.leave_out import without_largest_title
from bench.significance.ranks import holm, rank_pairs
from bench.significance.two_way import two_way


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_helps_and_keeps_the_order(p):
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_rank_bounds_by_hand():
    # first and second tied, both ahead of the third: 3 pairs, .01 * 3 and .02 * 2 are below .05
    p_MM = np.array([[1, 0.5, 0.01], [0.5, 1, 0.02], [0.01, 0.02, 1]])
    ranks = rank_pairs(np.array([0.5, 0.4, 0.1]), p_MM, np.full((3, 3), 99))
    assert [ranks.text(m) for m in range(3)] == ["1-2 (tied)", "1-2 (tied)", "3"]
    assert ranks.p_MM[0, 2] == pytest.approx(0.03)
    assert not ranks.few_MM.any()


def test_tie_groups_of_four():
    # two far ahead and alike, one in between, one far behind: 1-2, 1-2, 3, 4
    rng = np.random.default_rng(2)
    gain_MQ = np.array([0.8, 0.8, 0.5, 0.1])[:, None] + rng.normal(0, 0.05, (4, 800))
    gain_MQ[1] += gain_MQ[0].mean() - gain_MQ[1].mean()
    found = two_way([g[None] for g in gain_MQ], np.arange(800), np.arange(800), prior=0.01)
    ranks = found.ranks()
    assert [ranks.text(m) for m in range(4)] == ["1-2 (tied)", "1-2 (tied)", "3", "4"]


def one_title(n_titles=60, rows=10):
    """Three methods; the first owes all that sets it apart to title 0."""
    rng = np.random.default_rng(5)
    title_Q = np.repeat(np.arange(n_titles), rows)
    gain_MQ = rng.random((3, len(title_Q))) * 0.02
    gain_MQ[0, :rows] = 1.0
    return [g[None] for g in gain_MQ], np.arange(len(title_Q)), title_Q


def test_a_line_that_stands_on_one_title_is_not_separated_by_it():
    gains, user_Q, title_Q = one_title()
    found = two_way(gains, user_Q, title_Q, chance_M=False)
    assert found.ranks().text(0) == "1-3 (tied)"
    assert found.one_way.ranks().text(0) == "1"  # for these targets it is ahead


def test_too_few_titles_differ():
    gain_MQ = np.zeros((2, 400))
    gain_MQ[0, :40] = 1.0  # forty users, four titles
    title_Q = np.repeat(np.arange(40), 10)
    found = two_way([g[None] for g in gain_MQ], np.arange(400), title_Q, chance_M=False)
    assert found.difference(0, 1).note == "too few titles differ"
    assert found.difference(0, 1).p >= 2.0**-3
    assert found.ranks().text(0) == "1-2 (tied)"


def test_ranks_without_the_largest_title():
    gains, user_Q, title_Q = one_title()
    found = two_way(gains, user_Q, title_Q, chance_M=False)
    first, *others = without_largest_title(found)
    assert (first.title, first.rows) == (0, 10)
    assert first.place_before == 1
    without = [float(g[0, 10:].mean()) for g in gains]
    assert first.mean == pytest.approx(without[0])
    assert first.place == 1 + sum(x > without[0] for x in without)
    assert others == [None, None]  # no title moves them far


def test_one_title_alone_leaves_nothing():
    gains = [np.ones((1, 10)) * 0.5]
    assert without_largest_title(two_way(gains, np.arange(10), np.zeros(10, int))) == [None]
    assert without_largest_title(two_way(gains, np.arange(10), None)) == [None]
