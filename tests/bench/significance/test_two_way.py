"""The estimator against a double loop, hand-worked cases and what must hold of any data."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.errors import DataError
from bench.significance.clusters import Clusters
from bench.significance.two_way import two_way

USER = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 5])
TITLE = np.array([7, 8, 7, 9, 9, 9, 7, 8, 6, 7])
CELL = 10 * USER + TITLE


def some_gains(n_methods=3, n_seeds=2, n=10, seed=0):
    rng = np.random.default_rng(seed)
    return [
        np.round(rng.random((n_seeds, n)) * (rng.random((n_seeds, n)) < 0.7), 2)
        for _ in range(n_methods)
    ]


def dull_variance(gain_Q, label_Q):
    """The formula as it is written, one cluster at a time; also the effective clusters."""
    n, mean, labels = len(gain_Q), gain_Q.mean(), sorted(set(label_Q.tolist()))
    q = []
    for k in labels:
        rows = [r for r in range(n) if label_Q[r] == k]
        q.append(sum(gain_Q[r] - mean for r in rows) / n / (1 - len(rows) / n))
    g = len(labels)
    variance = (g - 1) / g * sum(x**2 for x in q)
    return variance, sum(x**2 for x in q) ** 2 / sum(x**4 for x in q)


def dull_two_way(gain_Q):
    users, titles, cells = (dull_variance(gain_Q, label)[0] for label in (USER, TITLE, CELL))
    return users, max(users + titles - cells, users)


def test_pairs_and_means_agree_with_a_double_loop():
    gains = some_gains()
    found = two_way(gains, USER, TITLE)
    mean_MQ = np.stack([gain_SQ.mean(axis=0) for gain_SQ in gains])
    for i, j in itertools.permutations(range(3), 2):
        apart_Q = mean_MQ[i] - mean_MQ[j]
        users, both = dull_two_way(apart_Q)
        assert found.of_pairs.users[i, j] == pytest.approx(users)
        assert found.of_pairs.rows[i, j] == pytest.approx(both)
        assert found.of_pairs.few_users[i, j] == pytest.approx(dull_variance(apart_Q, USER)[1])
        assert found.of_pairs.few_titles[i, j] == pytest.approx(dull_variance(apart_Q, TITLE)[1])
    for m in range(3):
        assert found.of_means.rows[m] == pytest.approx(dull_two_way(mean_MQ[m])[1])


def test_the_influence_of_a_cluster_is_that_of_leaving_it_out():
    gain_Q = some_gains(1, 1)[0][0]
    clusters = Clusters.of(USER)
    influence_G = clusters.influence(clusters.sums(gain_Q[:, None]))[:, 0]
    without = [gain_Q[USER != u].mean() for u in range(6)]
    np.testing.assert_allclose(influence_G, gain_Q.mean() - np.array(without), atol=1e-12)


def test_logarithms_have_the_variance_of_scaled_gains():
    gains = some_gains()
    mean_MQ = np.stack([gain_SQ.mean(axis=0) for gain_SQ in gains])
    found = two_way(gains, USER, TITLE).of_log_pairs
    apart_Q = mean_MQ[0] / mean_MQ[0].mean() - mean_MQ[1] / mean_MQ[1].mean()
    assert found.rows[0, 1] == pytest.approx(dull_two_way(apart_Q)[1])


def test_fits_by_the_formulas():
    gains = some_gains(n_methods=2, n_seeds=3, seed=4)
    gains[1] = gains[1][:1]  # one seed: says nothing of its own spread
    found = two_way(gains, USER, TITLE)
    gain_SQ, x = gains[0], gains[0].mean()
    between = sum((gain_SQ[s].mean() - x) ** 2 for s in range(3)) / 2
    within = 0.0
    for s in range(3):
        residual_Q = gain_SQ[s] - gain_SQ.mean(axis=0) - (gain_SQ[s].mean() - x)
        within += dull_two_way(residual_Q)[1] / 2
    assert found.fits.between_M[0] == pytest.approx(between)
    assert found.fits.within_M[0] == pytest.approx(within)
    assert np.isnan(found.fits.between_M[1])
    b, w, k0 = between / x**2, within / x**2, 0.06
    a, a0 = 2 / (w + k0**2) ** 2, 2 / k0**4
    kappa2 = max(0, (a * (b - w) + a0 * k0**2) / (a + a0))
    assert found.fits.variance == pytest.approx(kappa2)
    share = x**2 / 3 + gains[1].mean() ** 2
    assert found.of_pairs.fits[0, 1] == pytest.approx(kappa2 * share)
    spread = found.of_pairs.at((0, 1))
    below = spread.users**2 / (3 * spread.few_users - 2) + share**2 / (a + a0)
    below += spread.titles**2 / (3 * spread.few_titles - 2)
    assert spread.freedom == pytest.approx(max(spread.total**2 / below, 1))


def test_an_interval_of_a_difference_by_hand():
    # four users of one row each with their own titles: the variance is s² / n, k = 16² / 64 * ... = 2.94
    a_Q, b_Q = np.array([0.9, 0.5, 0.4, 0.2]), np.array([0.1, 0.3, 0.4, 0.4])
    found = two_way([a_Q[None], b_Q[None]], np.arange(4), np.arange(4), chance_M=False)
    apart_Q = a_Q - b_Q  # .8 .2 0 -.2, mean .2
    variance = apart_Q.var(ddof=1) / 4
    off_Q = apart_Q - 0.2
    k = (off_Q**2).sum() ** 2 / (off_Q**4).sum()
    assert found.difference(0, 1).gap == pytest.approx(0.2)
    assert found.of_pairs.rows[0, 1] == pytest.approx(variance)
    assert found.of_pairs.few_users[0, 1] == pytest.approx(k)
    t = 0.2 / np.sqrt(variance)
    assert found.of_pairs.p(np.full((2, 2), 0.2))[0, 1] == pytest.approx(
        2 * scipy_stats.t.sf(t, 3 * k - 2)
    )
    # |flipped sum| >= .8 where .8 and .2 + -.2 all count: 1.2, .8, .8, .4 -> 3 of 4
    assert found.difference(0, 1).p == pytest.approx(3 / 4)


def test_an_interval_of_a_mean_is_that_of_its_logarithm():
    gain_Q = np.random.default_rng(1).random(300)
    found = two_way([gain_Q[None]], np.arange(300), np.arange(300), chance_M=False)
    mean, spread = gain_Q.mean(), found.of_means.at((0,))
    y = scipy_stats.t.ppf(0.975, spread.freedom) * gain_Q.std(ddof=1) / np.sqrt(300) / mean
    interval = found.mean(0)
    assert (interval.low, interval.high) == pytest.approx((mean * np.exp(-y), mean * np.exp(y)))
    assert interval.words == "targets like these"


@pytest.mark.parametrize("seed", range(5))
def test_identities(seed):
    rng = np.random.default_rng(seed)
    gains = some_gains(2, 1, seed=seed)
    other = np.arange(10)
    one = two_way(gains, other, other)
    apart_Q = gains[0][0] - gains[1][0]
    assert one.of_pairs.rows[0, 1] == pytest.approx(apart_Q.var(ddof=1) / 10)
    distinct = two_way(gains, USER, other)
    assert distinct.of_pairs.titles[0, 1] == pytest.approx(0, abs=1e-15)
    order = rng.permutation(10)
    shuffled = two_way([g[:, order] for g in gains], USER[order], TITLE[order])
    assert shuffled.of_pairs.rows[0, 1] == pytest.approx(
        two_way(gains, USER, TITLE).of_pairs.rows[0, 1]
    )


def test_users_and_titles_may_change_places():
    gains = some_gains(2, 1)
    there, back = (two_way(gains, *by).sources for by in ((USER, TITLE), (TITLE, USER)))
    for read in (lambda m: m.of_pairs[0], lambda m: m.of_pairs[0].T):
        there_MM = read(there.users) + read(there.titles) - read(there.cells)
        back_MM = read(back.users) + read(back.titles) - read(back.cells)
        np.testing.assert_allclose(there_MM, back_MM, atol=1e-15)


def test_every_row_twice_says_no_more():
    gains = some_gains(2, 1)
    twice = two_way(
        [np.repeat(g, 2, axis=1) for g in gains], np.repeat(USER, 2), np.repeat(TITLE, 2)
    )
    once = two_way(gains, USER, TITLE)
    assert twice.of_pairs.total[0, 1] == pytest.approx(once.of_pairs.total[0, 1])


def test_equal_fits_have_no_spread():
    same = np.repeat(some_gains(1, 1)[0], 3, axis=0)
    found = two_way([same, some_gains(1, 1, seed=2)[0]], USER, TITLE)
    assert found.fits.within_M[0] == pytest.approx(0, abs=1e-18)
    assert not found.inputs.chance_M[0]
    assert found.of_means.fits[0] == 0.0 < found.of_means.fits[1]


def test_identical_lists_differ_by_nothing():
    gain_SQ = some_gains(1)[0]
    found = two_way([gain_SQ, gain_SQ], USER, TITLE, chance_M=False).difference(0, 1)
    assert (found.gap, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_eight_users_to_none_are_no_more_certain_than_signs():
    gain_Q = np.zeros(400)
    gain_Q[:8] = 1.0
    nothing = np.zeros((1, 400))
    found = two_way([gain_Q[None], nothing], np.arange(400), None, chance_M=False).difference(0, 1)
    assert 2.0**-7 <= found.p < 0.0095  # the bootstrap said .0036
    assert found.low > 0


def test_without_titles_all_words_are_for_these_targets():
    found = two_way(some_gains(), USER, None)
    assert found.mean(0).words == found.difference(0, 1).words == "these targets"
    assert found.concentration(0) is None
    with_titles = two_way(some_gains(), USER, TITLE).one_way
    assert with_titles.difference(0, 1).se == pytest.approx(found.difference(0, 1).se, rel=0.05)


def test_this_fit_leaves_out_the_fits():
    fit = two_way(some_gains(), USER, TITLE).within("this fit")
    assert fit.of_pairs.total[0, 1] == pytest.approx(fit.of_pairs.users[0, 1])


@pytest.mark.parametrize("n_users", [1, 2, 5, 6, 40])
def test_users_that_are_all_alike_are_a_sign_test(n_users):
    ahead, behind = np.full((1, n_users), 0.5), np.full((1, n_users), 0.2)
    found = two_way([ahead, behind], np.arange(n_users), None, chance_M=False).difference(0, 1)
    assert found.p == (1.0 if n_users == 1 else 2.0 ** (1 - n_users))
    assert (found.low <= 0 <= found.high) == (found.p >= 0.05)


def test_a_mean_of_rows_that_are_all_alike_has_an_interval():
    def interval(gain_Q, luck=0.0):
        users = np.arange(len(gain_Q))
        return two_way([gain_Q[None]], users, None, luck_M=[luck], chance_M=False).mean(0)

    def ends(found):
        return found.low, found.high

    assert ends(interval(np.zeros(200))) == pytest.approx((0, 1 - 0.025 ** (1 / 200)))
    assert ends(interval(np.ones(200))) == pytest.approx((0.025 ** (1 / 200), 1.0))
    assert ends(interval(np.full(200, 0.01), luck=1e-6)) == pytest.approx((0.01, 0.01))
    low, high = ends(interval(np.full(1, 0.6)))
    assert low < 0.02 and high > 0.98


def test_few_titles_leave_an_open_mean_wide():
    title_Q = np.repeat([1, 2], [190, 10])  # 200² / (190² + 10²) = 1.1 effective titles
    found = two_way([np.zeros((1, 200))], np.arange(200), title_Q).mean(0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / (200**2 / (190**2 + 10**2))))


def test_a_mean_that_hangs_on_few_titles_says_so():
    title_Q = np.repeat(np.arange(100), 10)
    gain_Q = 0.02 * (np.arange(1000) % 10 == 0)
    gain_Q[:20] = 1.0  # two titles of a hundred
    found = two_way([gain_Q[None]], np.arange(1000), title_Q, chance_M=False).mean(0)
    assert found.note == "hangs on 2 titles"
    assert found.words == "these targets"


def test_one_seed_takes_the_spread_of_others_and_says_so():
    rng = np.random.default_rng(3)
    several = rng.random((3, 200)) + np.array([-0.1, 0.0, 0.1])[:, None]
    one = rng.random((1, 200))
    found = two_way([several, one], np.arange(200), None)
    assert found.mean(1).note == "one seed: spread of fits pooled from 1 line with several"
    assert found.of_means.fits[1] == pytest.approx(found.fits.variance * found.mean_M[1] ** 2)
    alone = two_way([one], np.arange(200), None)
    assert alone.mean(0).note == "one seed: spread of fits taken as 6 % of the mean"
    assert two_way([one], np.arange(200), None, chance_M=False).mean(0).note == ""


def test_a_method_that_draws_no_chance_is_not_widened_by_others():
    rng = np.random.default_rng(13)
    one_Q, other_Q = rng.random((2, 300))
    noisy = other_Q + np.array([-0.2, 0.0, 0.2])[:, None]
    found = two_way(
        [one_Q[None], one_Q[None] * 0.9, noisy], np.arange(300), None, chance_M=[False, False, True]
    )
    assert found.difference(0, 1).parts["fits"] == 0.0
    assert found.difference(0, 2).parts["fits"] > 0.0


def test_the_parts_add_up():
    found = two_way(some_gains(), USER, TITLE, luck_M=[0, 1e-3, 2e-3]).difference(1, 2)
    assert found.parts["luck"] == pytest.approx(3e-3)
    assert sum(found.parts.values()) == pytest.approx(found.se**2)


def test_the_effect_is_per_user():
    a, b = np.array([3.0, 1.0, 2.0, 4.0]), np.array([1.0, 1.0, 1.0, 1.0])
    found = two_way([a[None], b[None]], np.array([5, 5, 6, 7]), None).difference(0, 1)
    apart = np.array([1.0, 1.0, 3.0])  # user 5 has 2 and 0
    assert found.effect == pytest.approx(1.5 / apart.std(ddof=1))  # the gap over rows is 1.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gain_that_is_no_number_names_its_method(bad):
    gains = some_gains()
    gains[1][0, 3] = bad
    with pytest.raises(DataError, match="sasrec has 1 gains that are no finite number"):
        two_way(gains, USER, TITLE, names=["a", "sasrec", "c"])


def test_another_number_of_rows_names_its_method():
    gains = [*some_gains(), np.zeros((1, 9))]
    with pytest.raises(DataError, match="d has gains of 9 test rows, the table has 10"):
        two_way(gains, USER, TITLE, names="abcd")


def test_a_log_ratio_is_tested_on_gains_divided_by_their_means():
    gains = some_gains(2, 1, seed=3)
    found = two_way(gains, USER, TITLE, chance_M=False)
    ratio = found.log_ratio(0, 1)
    scaled_Q = gains[0][0] / gains[0][0].mean() - gains[1][0] / gains[1][0].mean()
    assert ratio.gap == pytest.approx(np.log(gains[0][0].mean() / gains[1][0].mean()))
    assert ratio.parts["users"] + ratio.parts["titles"] == pytest.approx(dull_two_way(scaled_Q)[1])
    assert ratio.low < ratio.gap < ratio.high
    assert (ratio.low < 0 < ratio.high) == (ratio.p > 0.05)
    turned = found.log_ratio(1, 0)
    assert (turned.gap, turned.p) == pytest.approx((-ratio.gap, ratio.p))


def test_a_mean_of_nothing_has_no_log_ratio():
    gains = [some_gains(1)[0], np.zeros((1, 10))]
    assert two_way(gains, USER, TITLE).log_ratio(0, 1) is None
