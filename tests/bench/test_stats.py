"""Statistics against full enumeration, hand-worked cases and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.evaluation.metrics import Positions, gains, luck
from bench.significance.bootstrap import Draws, kendall, resample
from bench.significance.power import detectable_gap, rows_needed
from bench.significance.ranks import holm, tie_groups

A = np.array([0.1, 0.4, 0.9, 0.3, 0.7])
B = np.array([0.2, 0.1, 0.8, 0.0, 0.3])
FIXTURES = {
    "five users": (A, B, np.arange(5)),
    "two rows of one user": (np.append(A, 1.0), np.append(B, 0.0), np.array([0, 1, 2, 3, 4, 4])),
    "opposite signs": (A, B[::-1] + 0.15, np.array([3, 9, 4, 1, 7])),
}


def enumerated(a, b, user):
    """The difference of every possible resample of users, each equally likely; no cleverness."""
    users = sorted(set(user.tolist()))
    result = []
    for chosen in itertools.product(users, repeat=len(users)):
        rows = [i for u in chosen for i in np.flatnonzero(user == u)]
        result.append(a[rows].mean() - b[rows].mean())
    return np.array(result)


@pytest.mark.parametrize("name", FIXTURES)
def test_agrees_with_every_possible_resample(name):
    a, b, user = FIXTURES[name]
    every = enumerated(a, b, user)
    gap = a.mean() - b.mean()
    widen = scipy_stats.t.ppf(0.975, len(set(user.tolist())) - 1) / scipy_stats.norm.ppf(0.975)
    reach = np.quantile(np.abs(every - gap), 0.95) * widen
    p = np.mean(np.abs(every - gap) * widen >= abs(gap) - 1e-12)
    found = resample([a[None], b[None]], user, draws=200_000).difference(0, 1)
    assert found.gap == pytest.approx(gap, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((gap - reach, gap + reach), abs=0.012)
    assert found.p == pytest.approx(p, abs=0.005)


def test_the_interval_of_a_mean_agrees_with_scipy():
    gain_Q = np.random.default_rng(8).exponential(1.0, 60)
    found = resample([gain_Q[None]], np.arange(60), draws=50_000).interval(0)
    theirs = scipy_stats.bootstrap((gain_Q,), np.mean, n_resamples=50_000, method="BCa")
    widen = scipy_stats.t.ppf(0.975, 59) / scipy_stats.norm.ppf(0.975)
    ends = np.array(theirs.confidence_interval)
    assert found == pytest.approx(gain_Q.mean() + (ends - gain_Q.mean()) * widen, abs=0.01)


def test_the_effect_is_per_user():
    a, b = np.array([3.0, 1.0, 2.0, 4.0]), np.array([1.0, 1.0, 1.0, 1.0])
    found = resample([a[None], b[None]], np.array([5, 5, 6, 7]), draws=100).difference(0, 1)
    apart = np.array([1.0, 1.0, 3.0])  # user 5 has 2 and 0
    assert found.effect == pytest.approx(1.5 / apart.std(ddof=1))  # the gap over queries is 1.5


def test_equal_seeds_give_equal_results_and_identical_methods_never_differ():
    first, second, other = (
        resample([A[None], A[None]], np.arange(5), draws=500, seed=s) for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.draw_RM, second.draw_RM)
    assert (first.draw_RM != other.draw_RM).any()
    assert first.difference(0, 1).p == 1.0


def test_seeds_widen_the_interval_as_their_spread_asks():
    rng = np.random.default_rng(0)
    one_Q = rng.random(2000)
    shift_S = np.array([-0.1, 0.0, 0.1])
    draws = resample([one_Q[None], one_Q + shift_S[:, None]], np.arange(2000), draws=5000)
    users = one_Q.var() / 2000
    assert draws.se_M[0] == pytest.approx(np.sqrt(users), rel=0.04)
    assert draws.se_M[1] == pytest.approx(np.sqrt(users + shift_S.var(ddof=1) / 3), rel=0.04)
    low, high = draws.interval(1)
    assert high - low > 2 * 4.0 * draws.se_M[1]  # t with two degrees of freedom is 4.3, not 1.96


def test_clusters_count_as_one():
    rng = np.random.default_rng(1)
    gain_U = rng.random(400)
    thrice_Q = np.repeat(gain_U, 3)
    clustered = resample([thrice_Q[None]], np.repeat(np.arange(400), 3), draws=4000)
    assert clustered.se_M[0] == pytest.approx(gain_U.std() / 20, rel=0.05)


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


def test_tie_groups_of_four():
    # two far ahead and alike, one in between, one far behind: 1-2, 1-2, 3, 4
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.1, (4, 800))
    level = np.array([0.9, 0.9, 0.5, 0.1])
    gains = [
        (level[m] + noise[m] - noise[m].mean() + shift)[None]
        for m, shift in enumerate([0.001, 0.0, 0.0, 0.0])
    ]
    ranks = tie_groups(resample(gains, np.arange(800), draws=1000))
    assert [ranks.text(m) for m in range(4)] == ["1-2 (tied)", "1-2 (tied)", "3", "4"]


def rare_hits(rng, n_methods, user_Q, rate=0.05):
    """Gains like those of a recommender: mostly zero, hard queries hard for all."""
    hard_Q = rate * rng.gamma(1, 1, len(user_Q)) * rng.gamma(1, 1, user_Q.max() + 1)[user_Q]
    hit_MQ = rng.random((n_methods, len(user_Q))) < hard_Q
    return [hit_Q[None] / np.log2(2 + rng.integers(0, 10, len(user_Q))) for hit_Q in hit_MQ]


def test_twelve_identical_methods_are_rarely_separated():
    rng = np.random.default_rng(3)
    user_Q = np.arange(1000) * 4 // 5
    false = 0
    for family in range(40):
        draws = resample(rare_hits(rng, 12, user_Q), user_Q, draws=500, seed=family)
        ranks = tie_groups(draws)
        false += bool((ranks.first_M > 1).any())
    assert false <= 5  # P(more than 5 of 40 at 5 %) < 2 %; the seed is fixed


def test_intervals_cover():
    rng = np.random.default_rng(4)
    user_Q = np.arange(1500) * 2 // 3
    covered = 0
    for trial in range(200):
        found = resample(rare_hits(rng, 2, user_Q), user_Q, draws=400, seed=trial).difference(0, 1)
        covered += found.low <= 0 <= found.high
    assert 0.92 <= covered / 200 <= 0.98


@pytest.mark.parametrize(("n", "rho"), [(1925, 0.5), (4383, 0.2)])
def test_the_detectable_gap_is_found_four_times_in_five(n, rho):
    rng = np.random.default_rng(6)
    se = np.sqrt(2 * (1 - rho) / n)
    gap = detectable_gap(se)

    def found(true_gap, trials=1500):
        shared = rng.standard_normal((trials, n), np.float32) * np.sqrt(rho)
        a, b = (
            shared + rng.standard_normal((trials, n), np.float32) * np.sqrt(1 - rho)
            for _ in range(2)
        )
        apart = a - b + np.float32(true_gap)
        z = apart.mean(1) / (apart.std(1) / np.sqrt(n))
        return np.mean(np.abs(z) > 1.96)

    assert found(0.9 * gap, 400) < 0.8 < found(1.1 * gap, 400)
    assert rows_needed(gap, n, se) == pytest.approx(n, abs=1)
    assert rows_needed(gap / 2, n, se) == pytest.approx(4 * n, abs=1)


def test_more_rows_do_not_lessen_what_seeds_add():
    users, seeds = 3e-4, 4e-4
    gap = detectable_gap(np.hypot(users, seeds))
    assert rows_needed(gap, 1000, np.hypot(users, seeds), seeds) == pytest.approx(1000, abs=1)
    assert rows_needed(detectable_gap(seeds), 1000, np.hypot(users, seeds), seeds) is None


def families(n_methods, n_seeds, ratio, trials=60):
    """Share of tables of equal methods that separate any two; seeds spread ``ratio`` times the users."""
    rng, n = np.random.default_rng(11), 150
    separated = 0
    for trial in range(trials):
        users = rng.normal(0.1, 0.01 * np.sqrt(n), (n_methods, n))
        off = rng.normal(0, ratio * 0.01 * np.sqrt(n_seeds), (n_methods, n_seeds))
        gain = [own_Q + off_S[:, None] for own_Q, off_S in zip(users, off, strict=True)]
        draws = resample(gain, np.arange(n), draws=1000, seed=trial)
        separated += bool((tie_groups(draws).first_M > 1).any())
    return separated / trials


@pytest.mark.parametrize("n_seeds", [2, 3])
def test_few_seeds_that_agree_by_chance_separate_nothing(n_seeds):
    assert families(6, n_seeds, ratio=4) <= 0.12  # resampling the seeds themselves: .31 and .19


def test_three_seeds_agree_with_welch_where_users_add_nothing():
    rng, flat = np.random.default_rng(12), np.zeros(50)
    off = rng.normal(0, 1, (2, 3))
    off[1] += 4
    draws = resample([flat + off[0][:, None], flat + off[1][:, None]], np.arange(50), draws=500)
    found = draws.difference(0, 1)
    spread = off.var(axis=1, ddof=1)
    pooled = np.maximum(spread, spread.mean())  # no less than the average
    t = abs(found.gap) / np.sqrt(pooled.sum() / 3)
    assert found.p == pytest.approx(2 * scipy_stats.t.sf(t, 4), rel=1e-6)
    assert found.seed_se == pytest.approx(found.se)
    assert (found.low <= 0 <= found.high) == (found.p >= 0.05)


def test_a_method_that_draws_no_chance_is_not_widened_by_others():
    rng = np.random.default_rng(13)
    one_Q, other_Q = rng.random((2, 300))
    noisy = other_Q + np.array([-0.2, 0.0, 0.2])[:, None]
    same = np.stack([one_Q, one_Q, one_Q])
    draws = resample([same, one_Q[None] * 0.9, noisy], np.arange(300), draws=1000)
    assert draws.difference(0, 1).seed_se == 0.0
    assert draws.difference(0, 2).seed_se == pytest.approx(0.2 / np.sqrt(3))


@pytest.mark.parametrize("n_users", [1, 2, 5, 6, 40])
def test_users_that_are_all_alike_are_a_sign_test(n_users):
    ahead, behind = np.full((1, n_users), 0.5), np.full((1, n_users), 0.2)
    found = resample([ahead, behind], np.arange(n_users), draws=100).difference(0, 1)
    assert found.p == (1.0 if n_users == 1 else 2.0 ** (1 - n_users))
    assert (found.low <= 0 <= found.high) == (found.p >= 0.05)


def test_a_mean_of_users_that_are_all_alike_has_an_interval():
    all_hit = resample([np.ones((1, 200))], np.arange(200), draws=100)
    assert all_hit.interval(0) == pytest.approx((0.025 ** (1 / 200), 1.0))
    chance = resample([np.full((1, 200), 0.01)], np.arange(200), luck_M=[1e-6], draws=100)
    assert chance.interval(0) == (pytest.approx(0.01), pytest.approx(0.01))
    low, high = resample([np.full((1, 1), 0.6)], np.arange(1), draws=100).interval(0)
    assert low < 0.02 and high > 0.98


def test_kendall():
    assert kendall([1, 2, 3, 4], [1, 2, 3, 4]) == 1.0
    assert kendall([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert np.isnan(kendall([1], [1]))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 99))
def test_one_draw_is_a_weighted_mean_of_what_was_given(n_seeds, n_users, seed):
    rng = np.random.default_rng(seed)
    gain_SQ = rng.random((n_seeds, 2 * n_users))
    draws: Draws = resample([gain_SQ], np.repeat(np.arange(n_users), 2), draws=4000, seed=seed)
    assert draws.mean_M[0] == pytest.approx(gain_SQ.mean())
    assert draws.draw_RM.mean() == pytest.approx(gain_SQ.mean(), abs=5 * draws.se_M[0] / 60 + 1e-9)


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
    for trial in range(150):
        drawn_Q, expected_Q, luck = a_random_list(rng, n, n_items)
        draws = resample(
            [drawn_Q[None], expected_Q[None]], np.arange(n), luck_M=[0, luck], draws=400, seed=trial
        )
        found.append(draws.difference(0, 1).p)
    assert np.mean(np.array(found) < 0.05) <= 0.05
    assert min(found) > 1e-3


def test_without_a_single_hit_the_interval_still_has_a_width():
    nothing = np.zeros((1, 200))
    draws = resample([nothing, nothing], np.arange(200), draws=100)
    assert draws.interval(0) == pytest.approx((0, 1 - 0.025 ** (1 / 200)))
    assert draws.difference(0, 1).p == 1.0


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
