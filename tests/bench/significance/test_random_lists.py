"""Random lists, scored by their expectation: what one draw of them adds to a difference."""

from __future__ import annotations

import numpy as np
import pytest

from bench.evaluation.metrics import Positions, gains, luck
from bench.significance.two_way import two_way


def a_random_list(rng, n, n_items):
    """Gains of ten items drawn without a thought, and the expectation they are compared with."""
    at_Q = rng.integers(0, n_items, n)
    weight = np.zeros(n_items)
    weight[:10] = 1 / np.log2(np.arange(10) + 2.0)
    variance = (weight**2).mean() - weight.mean() ** 2
    return weight[at_Q], np.full(n, weight.mean()), variance / n


@pytest.mark.parametrize(("n", "n_items"), [(200, 1682), (1925, 2414)])
def test_a_random_list_does_not_differ_from_the_expectation_of_random_lists(n, n_items):
    rng = np.random.default_rng(7)
    found = []
    for _ in range(150):
        drawn_Q, expected_Q, variance = a_random_list(rng, n, n_items)
        table = two_way(
            [drawn_Q[None], expected_Q[None]],
            np.arange(n),
            rng.integers(0, 300, n),
            luck_M=[0, variance],
            chance_M=False,
        )
        found.append(table.ranks().p_MM[0, 1])
    assert np.mean(np.array(found) < 0.05) <= 0.05
    assert min(found) > 1e-3


def test_the_luck_of_random_lists_agrees_with_drawing_them():
    tail = Positions(
        np.array([255, 255, 0, 255], np.uint8),
        np.array([1 / 30, 1 / 8, 0, 1 / 30], np.float32),
        np.array([0, 4, 0, 10], np.uint8),
    )
    rng = np.random.default_rng(9)
    left, weight = (30, 8, 0, 30), 1 / np.log2(np.arange(10) + 2.0)
    total = np.ones(20_000)  # the third query is a hit at the first place
    for query in (0, 1):
        place = int(tail.start_Q[query]) + rng.integers(0, left[query], 20_000)
        total += np.where(place < 10, weight[np.minimum(place, 9)], 0)
    assert luck(tail, "ndcg@10") == pytest.approx((total / 4).var(), rel=0.03)
    assert gains(tail)["ndcg@10"].mean() == pytest.approx((total / 4).mean(), rel=0.02)
