"""The S-DPO loss against the literal formula, and its negatives."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from bench.errors import ConfigError, ContractError
from bench.registry import losses
from bench.types import Catalogue, Ragged, Windows
from llmrec.lm import backbone
from llmrec.preference.base import PreferenceConfig
from llmrec.preference.rows import negatives
from llmrec.preference.s_dpo import SDPO, s_dpo
from llmrec.preference.training import PreferenceBatchLoss
from llmrec.training.shared_prefix import LogProbs
from llmrec.trie import for_titles

TITLES = ("", "Kite", "Ball", "Kite", "Doll", "Lorry", "Ball", "Drum", "", "Top", "")
N = len(TITLES) - 1


def windows(rows):
    """Training rows from (history, target) pairs."""
    histories, targets = zip(*rows, strict=True)
    catalogue, n = Catalogue(TITLES, "toy"), len(rows)
    target_W = np.array(targets, np.int32)
    return Windows(catalogue, np.arange(n), Ragged.of(histories), target_W, np.arange(n))


@pytest.fixture(scope="module")
def trie():
    return for_titles(TITLES, backbone.load("tiny").tokenizer)


def literal(reward_BJ, beta):
    """``-log sigmoid(-log sum_j exp(beta (r_j - r_p)))``, one row at a time."""
    rows = []
    for row in reward_BJ:
        inner = sum(torch.exp(beta * (negative - row[0])) for negative in row[1:])
        rows.append(-torch.log(torch.sigmoid(-torch.log(inner))))
    return torch.stack(rows)


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_the_literal_formula_in_value_and_gradient(beta, k):
    torch.manual_seed(k)
    reward_BJ = torch.randn(6, 1 + k, dtype=torch.float64, requires_grad=True)
    ours, theirs = s_dpo(reward_BJ, beta=beta), literal(reward_BJ, beta)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(loss.sum(), reward_BJ)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_is_a_softmax_over_positive_and_negatives_with_its_gradient():
    reward_BJ = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    loss = s_dpo(reward_BJ, beta=0.7)
    share_BJ = (0.7 * reward_BJ).softmax(1)
    torch.testing.assert_close(loss, -share_BJ[:, 0].log())
    (gradient_BJ,) = torch.autograd.grad(loss.sum(), reward_BJ)
    torch.testing.assert_close(gradient_BJ[:, 1:], 0.7 * share_BJ[:, 1:])


def test_equals_dpo_with_one_negative():
    reward_B2 = 3 * torch.randn(50, 2)
    expected = -functional.logsigmoid(0.5 * (reward_B2[:, 0] - reward_B2[:, 1]))
    torch.testing.assert_close(s_dpo(reward_B2, beta=0.5), expected)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_begins_at_the_log_of_the_number_of_answers(k):
    torch.testing.assert_close(
        s_dpo(torch.full((2, 1 + k), -37.5)), torch.full((2,), math.log(1 + k))
    )


def test_stays_finite_where_the_exponential_overflows():
    reward_BJ = torch.tensor([[0.0, 200.0, 10.0], [0.0, -200.0, -200.0]], requires_grad=True)
    loss = s_dpo(reward_BJ)
    assert loss.tolist() == [200.0, 0.0]
    (gradient_BJ,) = torch.autograd.grad(loss.sum(), reward_BJ)
    assert gradient_BJ[0].tolist() == [-1.0, 1.0, 0.0]
    half = s_dpo(reward_BJ.detach().to(torch.bfloat16))
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": 0.0}, "beta is 0.0"),
        ({"beta": float("nan")}, r"beta is \.nan"),
        ({"negatives": 0}, "negatives is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"warmup": 0.5}, "warmup is 0.5"),
        ({"route": "cached"}, "shared_prefix, plain, trl"),
        ({"resample": "step"}, "once, epoch"),
        ({"sampling": "hard"}, "uniform, popularity"),
        ({"betta": 1.0}, "betta"),
    ],
)
def test_refuses_options_out_of_range(options, words):
    with pytest.raises(ConfigError, match=words):
        losses.get("s_dpo").complete(options)


def test_defaults_are_the_authors():
    config = PreferenceConfig()
    assert (config.negatives, config.beta, config.epochs) == (3, 1.0, 3)
    assert (config.lr, config.clip, config.resample) == (1e-5, 0.3, "once")
    assert losses.get("s_dpo").kind == "preference"


def test_negatives_are_other_titles_without_repeats(trie):
    rows = [([1, 5], 2), ([7], 4), ([3, 9, 2], 1), ([8], 5)] * 5
    train = windows(rows)
    leaf_WK = negatives(train, trie, PreferenceConfig(), seed=3)
    assert leaf_WK.shape == (20, 3)
    for (history, target), leaves in zip(rows, leaf_WK, strict=True):
        taken = {TITLES[item] for item in [*history, target]}
        drawn = [TITLES[trie.leaf_items[leaf][0]] for leaf in leaves]
        assert len(set(drawn)) == 3
        assert not taken & set(drawn)


def test_negatives_by_item_may_hold_the_targets_title(trie):
    train = windows([([5], 1)] * 200)
    by_title = negatives(train, trie, PreferenceConfig(), seed=0)
    by_item = negatives(train, trie, PreferenceConfig(class_aware=False), seed=0)
    target = trie.leaf_of_item_N[1]  # item 3 has the same title
    assert not (by_title == target).any()
    assert (by_item == target).any()
    assert any(len(set(leaves)) < 3 for leaves in by_item.tolist())
    assert not (by_item == trie.leaf_of_item_N[5]).any()


def test_a_rows_negatives_depend_on_seed_epoch_and_row_alone(trie):
    rows = [([1], 2), ([5], 4), ([7], 9)]
    config = PreferenceConfig()
    whole = negatives(windows(rows), trie, config, seed=5)
    np.testing.assert_array_equal(negatives(windows(rows[:2]), trie, config, seed=5), whole[:2])
    many = windows([rows[0]] * 30)
    draws = [negatives(many, trie, config, seed=s, epoch=e) for s, e in ((5, 0), (5, 1), (6, 0))]
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    np.testing.assert_array_equal(draws[0], negatives(many, trie, config, seed=5))


def test_every_free_title_is_drawn_equally_often(trie):
    train = windows([([1], 2)] * 3000)
    leaf_WK = negatives(train, trie, PreferenceConfig(), seed=1)
    count = np.bincount(leaf_WK.ravel(), minlength=trie.n_leaves)
    taken = trie.leaf_of_item_N[[1, 2]]
    assert (count[taken] == 0).all()
    free = np.delete(count, taken)
    expected = leaf_WK.size / len(free)
    assert np.abs(free - expected).max() < 5 * np.sqrt(expected)


def test_popular_titles_are_drawn_more_often(trie):
    rows = [([1], 2)] * 600 + [([1], 9)] * 300
    config = PreferenceConfig(sampling="popularity", negatives=1)
    leaf_WK = negatives(windows(rows), trie, config, seed=1)[:600]
    count = np.bincount(leaf_WK.ravel(), minlength=trie.n_leaves)
    assert count[trie.leaf_of_item_N[9]] > 0.95 * 600
    assert count[trie.leaf_of_item_N[2]] == 0


def test_too_few_titles_name_the_row_and_the_repair(trie):
    train = windows([([1], 2), ([1, 2, 4, 5], 7)])
    with pytest.raises(
        ConfigError, match=r"training row 1 has 2 titles left for 3 negatives.*lower"
    ):
        negatives(train, trie, PreferenceConfig(), seed=0)


def loss_of(trie, **options):
    return SDPO(options, trie, vocabulary=512, avt=2.0)


def test_rewards_and_margins_are_kept_by_epoch(trie):
    loss = loss_of(trie, beta=2.0)
    batch_loss = PreferenceBatchLoss(loss, LogProbs(loss, trie), steps_per_epoch=2)
    reference_BJ = torch.zeros(2, 3)
    batch_loss.judge(torch.zeros(2, 3), reference_BJ)
    batch_loss.settle(None, 0.0)
    batch_loss.step()
    batch_loss.judge(torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -1.0]]), reference_BJ)
    batch_loss.settle(None, 0.0)
    batch_loss.step()
    batch_loss.judge(torch.tensor([[3.0, 0.0, 1.0]]), reference_BJ[:1])
    batch_loss.settle(None, 0.0)
    facts = batch_loss.facts()
    assert facts["first_loss"] == pytest.approx(math.log(3))
    assert facts["reward_chosen_by_epoch"] == pytest.approx([0.5, 6.0])
    assert facts["reward_rejected_by_epoch"] == pytest.approx([0.125, 1.0])
    assert facts["reward_margin_by_epoch"] == pytest.approx([(1.0 - 2.0) / 4, 4.0])
    assert facts["reward_accuracy_by_epoch"] == pytest.approx([0.25, 1.0])
    twin = PreferenceBatchLoss(loss, LogProbs(loss, trie), steps_per_epoch=2)
    twin.load_state_dict(batch_loss.state_dict())
    assert twin.facts() == facts and twin.epoch == 1
    before = batch_loss.snapshot()
    batch_loss.judge(torch.ones(1, 3), reference_BJ[:1])
    batch_loss.restore(before)
    batch_loss.settle(None, 0.0)
    assert batch_loss.facts() == facts


def test_a_loss_that_is_not_finite_names_the_rows(trie):
    loss = loss_of(trie)
    with pytest.raises(ContractError, match=r"s_dpo.*rows \[1\].*nan"):
        loss.preference(torch.tensor([[0.0, 1.0], [float("nan"), 1.0]]), torch.zeros(2, 2))


def test_the_loss_needs_the_start_model():
    from llmrec.generative.bigrec import BIGRec

    needs = BIGRec.needs(
        BIGRec.complete(BIGRec({"epochs": 2}, loss="s_dpo").config, loss="s_dpo", decoder="exact"),
        loss="s_dpo",
        backbone="tiny",
    )
    (need,) = needs.values()
    assert list(needs) == ["start"]
    assert (need.method, need.loss, need.backbone) == ("bigrec", "lml", "tiny")
    assert need.config["epochs"] == 2
    assert not {"loss_options", "decoder_options"} & set(need.config)
    assert BIGRec.needs(BIGRec().config, loss="msl_ats", backbone="tiny") == {}
