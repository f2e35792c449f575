"""Sign flips against every flip there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from bench.significance.intervals import least_clusters
from bench.significance.sign_flip import flip_p


def every_flip(apart):
    sums = [abs(np.dot(s, apart)) for s in itertools.product([-1, 1], repeat=len(apart))]
    return np.mean([s >= abs(sum(apart)) - 1e-12 for s in sums])


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_every_flip(seed):
    rng = np.random.default_rng(seed)
    total_GM = np.round(rng.random((9, 3)), 1)  # rounded, so that there are ties
    pairs = [(0, 1), (1, 2), (2, 0)]
    p, differing = flip_p(total_GM, pairs)
    for place, (i, j) in enumerate(pairs):
        apart_G = total_GM[:, i] - total_GM[:, j]
        assert p[place] == pytest.approx(every_flip(apart_G))
        assert differing[place] == np.count_nonzero(np.abs(apart_G) > 1e-9)


def test_eight_to_none_is_exact():
    total_GM = np.array([[1.0, 0.0]] * 8 + [[0.5, 0.5]] * 20)
    p, differing = flip_p(total_GM, [(0, 1)])
    assert (p[0], differing[0]) == (2.0**-7, 8)


def test_many_clusters_are_flipped_at_random():
    rng = np.random.default_rng(0)
    apart_G = rng.normal(0.12, 1, 300)
    total_GM = np.stack([apart_G, np.zeros(300), -apart_G], axis=1)
    p, _ = flip_p(total_GM, [(0, 1), (0, 2)], flips=20_000)
    z = abs(apart_G.sum()) / np.sqrt((apart_G**2).sum())
    assert p == pytest.approx(2 * norm.sf(z), abs=0.01)
    assert p[0] == p[1]  # the same flips for all pairs


def test_nothing_differs():
    p, differing = flip_p(np.ones((5, 2)), [(0, 1)])
    assert (p[0], differing[0]) == (1.0, 0)


@pytest.mark.parametrize(("pairs", "k"), [(1, 6), (28, 11), (66, 12), (1225, 16)])
def test_how_many_clusters_have_to_differ(pairs, k):
    assert least_clusters(pairs, 0.05) == k
    assert pairs * 2.0 ** (1 - k) <= 0.05 < pairs * 2.0 ** (2 - k)
