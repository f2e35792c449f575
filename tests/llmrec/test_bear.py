"""BEAR against a loop with a sorted list in it, its reductions to MSL, and its normaliser."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_losses import V, batch, children_of, logit, random_head, random_trie
from test_tuning import RECIPE, Setting, run_in

from bench.errors import ConfigError
from bench.registry import losses
from llmrec.lm.head import Head
from llmrec.losses import Answers
from llmrec.losses.bear import BEAR, bear_weight
from llmrec.training.loop import tune
from llmrec.trie import Trie

FORMS = ("released", "border", "at_risk")


def bear(trie, **options):
    return BEAR(options, trie, vocabulary=V, avt=3.5)


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def by_hand(hidden, head, answers, trie, form, *, lam, xi, top, tau):
    """Row by row: sort the log-probabilities, take the last that is kept, weight the label's."""
    rows = []
    for at in range(len(answers)):
        tokens = children_of(trie)(int(answers.node_R[at]))
        scaled = {z: logit(hidden[at], head, z) / tau for z in tokens}
        total = torch.logsumexp(torch.stack(list(scaled.values())), 0)
        label = scaled[int(answers.token_R[at])] - total
        kept = sorted((float((value - total).detach()) for value in scaled.values()), reverse=True)[
            :top
        ]
        m = (float(label.detach()) - kept[-1]) / xi
        g = {"released": sigmoid(m), "border": 4 * sigmoid(m) * sigmoid(-m), "at_risk": sigmoid(-m)}
        rows.append(-tau * (1 + lam * g[form]) * label)
    return torch.stack(rows)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("trainable", [False, True])
def test_equals_the_loop_in_value_and_gradient(form, trainable):
    trie = random_trie()
    hidden, answers = batch(trie, 8)
    head = random_head(bias=True, softcap=3.0, trainable=trainable)
    options = {"lam": 1.5, "xi": 0.7, "top": 4, "tau": 1.7}
    mine = bear(trie, form=form, **options).per_row(hidden, head, answers)
    theirs = by_hand(hidden, head, answers, trie, form, **options)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    inputs = [hidden, head.weight_VD] if trainable else [hidden]
    for one, other in zip(
        *(torch.autograd.grad(loss.sum(), inputs) for loss in (mine, theirs)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def slope(form, gap):
    """-dL/du of a row whose label is ``gap`` above the second of two tokens that are kept, of three.

    With the identity as head the gradient of the label's logit is -w (1 - p).
    """
    trie = Trie.of([[1, 0], [2, 0], [3, 0]], 0)
    # label 1; token 2 is the border when the label is above it, else token 3 is the best and 2 the last kept
    other = 0.0 if gap > 0 else 9.0
    hidden = torch.tensor([[0.0, gap, 0.0, other]], dtype=torch.float64, requires_grad=True)
    answers = Answers(*(torch.tensor([value]) for value in (1, 0, 0, 0)))
    loss = bear(trie, form=form, top=2)(hidden, Head(torch.eye(4, dtype=torch.float64)), answers)
    share = hidden.detach()[0, 1:].softmax(0)[0]
    (gradient,) = torch.autograd.grad(loss, hidden)
    return float(-gradient[0, 1] / (1 - share))


def test_weights_of_the_defaults():
    """u - log q = -5 and 2: 1.0349 and 1.1686 in the released form, the other way round in at_risk."""
    assert slope("released", -5.0) == pytest.approx(1.0349, abs=5e-5)
    assert slope("released", 2.0) == pytest.approx(1.1686, abs=1e-4)
    assert slope("at_risk", -5.0) == pytest.approx(1.25 - 0.0349, abs=5e-5)
    assert slope("at_risk", -5.0) > slope("at_risk", 2.0)
    margin = torch.tensor([0.0, 8.0], dtype=torch.float64)
    assert bear_weight(margin, lam=0.25, form="border").tolist() == pytest.approx(
        [1.25, 1.0], abs=4e-4
    )


@pytest.mark.parametrize("norm", ["count", "weight"])
@pytest.mark.parametrize("options", [{"lam": 0.0}, {"xi": 1e9}], ids=lambda o: str(o))
def test_without_a_margin_it_is_msl_at_that_temperature(norm, options):
    trie = random_trie()
    hidden, answers = batch(trie)
    loss = bear(trie, norm=norm, tau=2.0, **options)
    plain = losses.get("msl_tau")({"tau": 2.0}, trie, vocabulary=V, avt=3.5)
    mine, theirs = loss(hidden, random_head(), answers), plain(hidden, random_head(), answers)
    gradient, wanted = (torch.autograd.grad(value, hidden)[0] for value in (mine, theirs))
    # at an infinite width every weight is 1 + lam / 2, which only their sum takes out
    factor = loss.rescale() if norm == "weight" else 1 / (1 + loss.config.lam / 2)
    torch.testing.assert_close(mine * factor, theirs, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradient * factor, wanted, rtol=1e-9, atol=1e-12)
    assert loss.count(answers) == plain.count(answers)


def test_margin_is_of_one_sign_where_all_or_only_one_token_is_kept():
    trie = random_trie()
    hidden, answers = batch(trie, 60)
    widest = int(trie.fan_out_M.max())
    for top, below, wide in ((1, None, 1.0), (widest, 0.0, 0.0)):
        loss = bear(trie, top=top)
        loss(hidden, random_head(), answers)
        loss.step()
        facts = loss.facts()
        assert facts["bear_wide"] == wide
        if below is not None:
            assert facts["bear_below"] == below
        else:  # M <= 0: the released weight is at most that at the border
            assert 1 < facts["bear_weight"] <= 1.125 and facts["bear_below"] > 0.5


def test_fewer_tokens_than_are_kept_and_logits_far_apart_stay_finite():
    """Three tokens, ten kept: q is the smallest, which underflows in fp32 where the release divides by it."""
    trie = Trie.of([[1, 0], [2, 0], [3, 0]], 0)
    hidden = torch.tensor([[0.0, 100.0, 0.0, -100.0]], requires_grad=True)
    answers = Answers(*(torch.tensor([value]) for value in (2, 0, 0, 1)))
    loss = bear(trie)
    value = loss(hidden, Head(torch.eye(4)), answers)
    weight = 1 + 0.25 * sigmoid(100 / 2.75)
    assert value.item() == pytest.approx(100 * weight)
    assert torch.isfinite(torch.autograd.grad(value, hidden)[0]).all()


def test_one_batch_is_four_micro_batches_under_the_norm_by_weight():
    trie = random_trie()
    hidden, answers = batch(trie, 40)
    gradients, factors = [], []
    for parts in (1, 4):
        loss = bear(trie, norm="weight", lam=2.0, form="at_risk")
        total = torch.zeros_like(hidden)
        for rows in torch.arange(len(answers)).chunk(parts):
            total += torch.autograd.grad(
                loss(hidden[rows], random_head(), answers.take(rows)),
                hidden,
            )[0]
        factors.append(loss.rescale())
        gradients.append(total * factors[-1] / loss.count(answers))
        loss.step()
        assert loss.rescale() == 1.0  # nothing has been seen of the next step
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)
    assert factors[0] == pytest.approx(1 / loss.facts()["bear_weight"], rel=1e-12)


def test_the_trainer_divides_by_the_weights_before_it_clips(tmp_path):
    """Weights of 2 that are all equal change neither the clipped step nor the loss that is told."""

    def weights(name, micro_batch, **options):
        setting = Setting(BEAR)
        setting.loss.config = setting.loss.config.replace(norm="weight", **options)
        recipe = replace(RECIPE, epochs=1, warmup_steps=0, micro_batch=micro_batch)
        run = run_in(tmp_path / name)
        tune(setting.lm, setting.rows[:8], setting.batch_loss(), recipe, run)
        flat = torch.cat([p.detach().flatten() for p in setting.lm.trainable().values()])
        return flat, run.facts["loss_by_epoch"][0]

    plain, plain_loss = weights("plain", 8, lam=0.0)
    parts, parts_loss = weights("parts", 2, lam=2.0, xi=1e9)
    assert parts_loss == pytest.approx(plain_loss, rel=1e-5)
    torch.testing.assert_close(parts, plain, rtol=1e-4, atol=1e-5)


def test_no_row_with_a_choice_gives_zero_and_no_facts():
    trie = Trie.of([[1, 2, 0]], 0)
    with pytest.warns(UserWarning, match="one title"):
        loss = bear(trie, norm="weight")
    answers = Answers.of(trie, np.array([0]))
    hidden = torch.zeros(3, V, requires_grad=True)
    value = loss(hidden, Head(torch.eye(V)), answers)
    value.backward()
    assert (value.item(), loss.rescale()) == (0.0, 1.0)
    loss.step()
    assert set(loss.facts().values()) == {0.0}


@pytest.mark.parametrize("wrong", [{"lam": -0.1}, {"xi": 0.0}, {"top": 0}], ids=lambda o: str(o))
def test_refuses_options_out_of_range(wrong):
    (key,) = wrong
    with pytest.raises(ConfigError, match=f"{key} is"):
        losses.get("bear").complete(wrong)
