"""DMPO, DynamicPO and the softmax over titles: formulas, reductions, and their place in a training."""

import itertools
import math

import numpy as np
import pytest
import torch
from test_s_dpo_training import windows
from test_tuning import Setting, run_in

from bench.errors import ConfigError
from bench.method import configure
from bench.registry import losses
from llmrec.generative.bigrec import BIGRec
from llmrec.lm import backbone
from llmrec.losses.msl import MSL
from llmrec.preference.dmpo import dmpo
from llmrec.preference.dynamic_dpo import boundary
from llmrec.preference.s_dpo import s_dpo
from llmrec.preference.setup import preference_training
from llmrec.training.shared_prefix import LogProbs
from llmrec.trie import Trie

TRIE = Trie.of([[1, 0], [2, 0], [3, 0], [3, 0], [4, 0]], 0)
DOUBLE = torch.float64


def made(name, **options):
    return losses.get(name)(options, TRIE, vocabulary=5, avt=2.0)


def random(*shape, seed=0, scale=1.0):
    chance = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=chance, dtype=DOUBLE)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_dmpo_against_its_formula_and_between_its_bounds(k):
    reward = random(6, 1 + k).requires_grad_()
    gap = 0.7 * (reward[:, 1:] - reward[:, :1])
    value = dmpo(reward, beta=0.7)
    torch.testing.assert_close(value, torch.log1p(gap.mean(1).exp()))
    softmax = s_dpo(reward, beta=0.7)
    middle = torch.log1p((gap.mean(1) + math.log(k)).exp())
    assert (softmax >= middle - 1e-12).all() and (middle >= value - 1e-12).all()
    (gradient,) = torch.autograd.grad(value.sum(), reward)
    torch.testing.assert_close(gradient[:, 1:], gradient[:, 1:2].expand(-1, k))
    if k == 1:
        torch.testing.assert_close(value, softmax)
    torch.testing.assert_close(dmpo(torch.zeros(1, 1 + k)), torch.tensor([math.log(2)]))


def dynamic_by_hand(policy, reference, beta):
    """The released formula, one row at a time; clusters by trying every split."""
    rows = []
    for lp, ref in zip(policy.tolist(), reference.tolist(), strict=True):
        best, others = lp[0], lp[1:]
        kept = [j for j, value in enumerate(others) if value >= best] or top_cluster(others)
        rest = [others[j] for j in range(len(others)) if j not in kept] or others
        terms = []
        for j in kept:
            first, second = best - others[j], others[j] - sum(rest) / len(rest)
            ratio = (first - second - 2) / (abs(first) + abs(second))
            gap = (best - ref[0]) - (others[j] - ref[1 + j])
            terms.append(beta * (1 + 0.5 * math.tanh(ratio)) * gap)
        rows.append(math.log1p(math.exp(-sum(terms) / len(terms))))
    return torch.tensor(rows, dtype=DOUBLE)


def top_cluster(values):
    order = sorted(range(len(values)), key=values.__getitem__)

    def spread(part):
        part = [values[j] for j in part]
        return sum((value - sum(part) / len(part)) ** 2 for value in part)

    splits = [
        (order[:a], order[a:b], order[b:])
        for a, b in itertools.combinations(range(1, len(order)), 2)
    ]
    return min(splits, key=lambda parts: sum(map(spread, parts)))[2]


@pytest.mark.parametrize("k", [3, 5, 8])
def test_dynamic_against_the_released_formula(k):
    policy, reference = random(40, 1 + k, scale=3.0), random(40, 1 + k, seed=1)
    policy[::2, 0] = 9.0  # no negative is as probable: the clusters decide
    loss = made("dynamic_dpo", beta=0.7, negatives=k)
    value = loss.preference(policy.requires_grad_(), reference)
    torch.testing.assert_close(value, dynamic_by_hand(policy, reference, 0.7))
    (gradient,) = torch.autograd.grad(value.sum(), policy)
    assert ((gradient[:, 1:] > 0) == boundary(policy.detach())).all()


def test_dynamic_with_equal_negatives_is_dmpo_and_finite():
    """All kept and no distance to the mean: beta_j is beta where the positive is equal too."""
    loss, reference = made("dynamic_dpo", beta=0.7), random(1, 6)
    equal = torch.full((1, 6), -4.0, dtype=DOUBLE, requires_grad=True)
    value = loss.preference(equal, reference)
    torch.testing.assert_close(value, dmpo(equal - reference, beta=0.7))
    assert torch.isfinite(torch.autograd.grad(value.sum(), equal)[0]).all()
    better = torch.tensor([[1.0, -4.0, -4.0, -4.0, -4.0, -4.0]], dtype=DOUBLE)
    assert boundary(better).all() and torch.isfinite(loss.preference(better, reference)).all()


def test_dynamic_needs_three_negatives():
    with pytest.raises(ConfigError, match="negatives is 2"):
        losses.get("dynamic_dpo").complete({"negatives": 2})


def test_titles_over_the_whole_catalogue_are_summed_msl():
    """Value and gradient of every parameter, each title scored under the row's own prompt."""
    setting = Setting(MSL)
    lm, trie, rows = setting.lm, setting.trie, setting.rows[:3]
    loss = losses.get("title_softmax")(None, trie, vocabulary=lm.vocabulary, avt=2.0)
    others = [np.delete(np.arange(trie.n_leaves), row.leaf) for row in rows]
    leaf_BJ = np.array([[row.leaf, *rest] for row, rest in zip(rows, others, strict=True)])
    log_probs = LogProbs(loss, trie, setting.prompter.shared)
    score_BJ, _ = log_probs(lm, [row.prompt for row in rows], leaf_BJ)
    found = []
    for total in (
        loss.preference(score_BJ, torch.zeros_like(score_BJ)).sum(),
        setting.batch_loss().sum(lm, rows),
    ):
        lm.zero_grad()
        total.backward()
        gradient = torch.cat([p.grad.flatten() for p in lm.trainable().values()])
        found.append((total.detach(), gradient))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


def test_title_softmax_is_a_softmax_with_its_gradient_and_the_weighted_msl():
    score = random(4, 6).requires_grad_()
    loss = made("title_softmax", title_tau=2.0, msl=0.1)
    value = loss.preference(score, torch.zeros(4, 6, dtype=DOUBLE))
    share = (score / 2).softmax(1)
    torch.testing.assert_close(value, -share[:, 0].log() - 0.1 * score[:, 0])
    (gradient,) = torch.autograd.grad(value.sum(), score)
    wanted = share / 2
    wanted[:, 0] -= 0.5 + 0.1
    torch.testing.assert_close(gradient, wanted)
    torch.testing.assert_close(
        made("title_softmax", title_tau=2.0).of_rewards(score), s_dpo(score, beta=0.5)
    )


def test_log_q_takes_off_how_often_a_title_is_drawn():
    """Items 3 and 4 read alike: by title each is drawn alike, by item that one twice as often."""
    even = made("title_softmax", log_q=True, title_tau=2.0).reference_of_title()
    np.testing.assert_allclose(even, 2 * np.log(np.full(4, 1 / 4)))
    by_item = made("title_softmax", log_q=True, class_aware=False).reference_of_title()
    np.testing.assert_allclose(np.exp(by_item), [0.2, 0.2, 0.4, 0.2])
    popular = made("title_softmax", log_q=True, sampling="popularity")
    popular.observe_targets(np.array([1, 1, 1]))
    np.testing.assert_allclose(np.exp(popular.reference_of_title()), [1 / 7, 4 / 7, 1 / 7, 1 / 7])
    assert not made("title_softmax", sampling="popularity").reference_of_title().any()


def test_title_softmax_is_trained_in_the_place_of_lml(tmp_path):
    """No start model, the method's own epochs and rate, and log Q in the place of a reference."""
    config = BIGRec().config
    assert BIGRec.needs(config, loss="title_softmax", backbone="tiny") == {}
    assert "start" in BIGRec.needs(config, loss="dmpo", backbone="tiny")
    assert "lr" in BIGRec.search_space(config, loss="title_softmax", backbone=None)
    options = {"batch": 8, "loss_options": {"negatives": 2, "log_q": True}}
    method = BIGRec(configure(BIGRec, options), loss="title_softmax", backbone="tiny")
    method.lm = backbone.load("tiny")
    train = windows(6)
    method._index(train.catalogue)
    training = preference_training(losses.get("title_softmax"), method, train, run_in(tmp_path))
    assert training.recipe == method.recipe()
    leaves = method.trie.n_leaves
    for row in training.rows:
        np.testing.assert_allclose(row.reference_EJ, np.log(1 / leaves), rtol=1e-6)
    assert training.batch_loss.sum(method.lm, training.rows[:2]).isfinite()
    assert "first_loss_off" not in training.batch_loss.facts()
