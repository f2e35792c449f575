"""The microscope: its numbers against dull references, and a training that does not notice it."""

import json
import math

import numpy as np
import pytest
import torch

from bench.cell import Run
from llmrec.losses.lml import LML
from llmrec.losses.msl import MSL
from llmrec.losses.msl_ats import MSLATS, adaptive_tau
from llmrec.training import microscope
from llmrec.training.loop import tune
from llmrec.training.microscope import look, schedule, valid_tokens
from llmrec.training.packing import all_answers
from llmrec.training.split import gradient_norm, histogram, moments, quantiles, split, weights
from tests.llmrec.test_s_dpo_training import adapters, train
from tests.llmrec.test_tuning import RECIPE, Setting

# three rows over five tokens: two valid tokens, three valid tokens, one valid token
LOGITS = torch.tensor([[1.0, 2, 0, 3, 1], [0, 1, 2, 0, 4], [2, 0, 1, 1, 0]], dtype=torch.float64)
VALID = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]).bool()
TOKEN = torch.tensor([1, 3, 2])


def dull_parts(logits_RV):
    """Both parts as the paper writes them: sums of probabilities, row by row."""
    first, second = [], []
    for row, valid, token in zip(logits_RV, VALID, TOKEN, strict=True):
        share = row.exp() / row.exp().sum()
        first.append(-torch.log(share[valid].sum()))
        second.append(-torch.log(share[token] / share[valid].sum()))
    return torch.stack(first), torch.stack(second)


def test_the_parts_are_the_papers_and_add_up_to_lml():
    parts, dull = split(LOGITS, VALID, TOKEN), dull_parts(LOGITS)
    torch.testing.assert_close(parts.first_R, dull[0])
    torch.testing.assert_close(parts.second_R, dull[1])
    nll = torch.nn.functional.cross_entropy(LOGITS, TOKEN, reduction="none")
    torch.testing.assert_close(parts.first_R + parts.second_R, nll)
    assert float(parts.second_R[2]) == 0  # the only valid token


def test_norms_are_those_of_the_gradient_that_backward_gives():
    weight = torch.nn.Parameter(LOGITS.clone())
    unused = torch.nn.Parameter(torch.ones(3))
    for ours, dull in zip(split(2 * weight, VALID, TOKEN), dull_parts(2 * weight), strict=True):
        found = gradient_norm(ours.mean(), [weight, unused])
        assert weight.grad is None
        dull.mean().backward(retain_graph=True)
        assert found == pytest.approx(float(weight.grad.norm()), rel=1e-12)
        weight.grad = None


def test_weights_moments_and_histogram_of_a_hand_worked_case():
    found = weights(LOGITS, VALID, TOKEN, tau=2.0)
    assert found["valid"].tolist() == pytest.approx(
        [1 / (1 + math.e), 1 - 1 / (1 + math.e + math.e**2)]
    )
    assert found["tau"][0].item() == pytest.approx(1 / (1 + math.exp(0.5)))
    assert found["whole"][1].item() == pytest.approx(
        1 - 1 / (2 + math.e + math.exp(2) + math.exp(4))
    )
    gap, variance = moments(LOGITS, VALID, TOKEN)
    assert gap == pytest.approx((0.5 - 1) / 2)  # 2 - 1.5, and 0 - 1
    assert variance == pytest.approx((0.25 + 2 / 3) / 2)
    assert quantiles(torch.tensor([3.0, 1, 2])) == [1.0, 2.0, 3.0]
    normal = torch.randn(200, 300, generator=torch.Generator().manual_seed(0))
    seen = histogram(normal, torch.ones_like(normal, dtype=torch.bool))
    assert sum(seen["count"]) == normal.numel()
    assert abs(seen["skewness"]) < 0.05 and seen["kurtosis"] == pytest.approx(3, abs=0.1)
    assert sum(histogram(LOGITS, VALID)["count"]) == 0  # no row has enough valid tokens


def test_valid_tokens_are_those_of_the_trie():
    setting = Setting()
    answers = all_answers(setting.rows[:3], setting.trie)
    valid_RV = valid_tokens(setting.trie, answers, setting.lm.vocabulary)
    assert valid_RV.sum(1).tolist() == setting.trie.fan_out_M[answers.node_R.numpy()].tolist()
    assert valid_RV[torch.arange(len(answers)), answers.token_R].all()


@pytest.mark.parametrize("loss", [LML, MSL, MSLATS])
def test_a_look_agrees_with_the_loss_itself(loss):
    setting = Setting(loss)
    seen = look(setting.lm, setting.batch_loss(), setting.rows[:6])
    answers = all_answers(setting.rows[:6], setting.trie)
    lml = Setting(LML).batch_loss().sum(setting.lm, setting.rows[:6])
    msl = Setting(MSL).batch_loss().sum(setting.lm, setting.rows[:6])
    assert seen["first"] + seen["second"] == pytest.approx(float(lml) / len(answers), rel=1e-4)
    assert seen["second"] == pytest.approx(float(msl) / len(answers), rel=1e-4)
    assert seen["first_norm"] > 0 < seen["second_norm"]
    assert seen["tau"] == setting.loss.temperature
    if loss is MSLATS:
        setting.batch_loss().sum(setting.lm, setting.rows[:6])
        setting.loss.step()
        formula = adaptive_tau(seen["gap"], seen["variance"], setting.loss.m, 0.9)
        assert setting.loss.watch()["tau_unclamped"] == pytest.approx(formula, rel=1e-3)


def trained(folder, looks, loss=MSLATS, rows=None):
    setting = Setting(loss)
    run = Run(seed=3, device="cpu", folder=folder, microscope=looks)
    folder.mkdir(exist_ok=True)
    tune(setting.lm, rows or setting.rows, setting.batch_loss(), RECIPE, run)
    return torch.cat([p.detach().flatten() for p in setting.lm.trainable().values()]), run.facts


@pytest.mark.parametrize("loss", [LML, MSLATS])
def test_the_training_is_the_same_bit_for_bit(loss, tmp_path):
    plain, without = trained(tmp_path / "a", None, loss)
    watched, facts = trained(tmp_path / "b", 4, loss)
    assert torch.equal(plain, watched)
    assert "microscope" not in without
    record = facts["microscope"]
    assert [one["step"] for one in record["looks"]] == [0, 3, 6, 9]
    assert sum("weights" in one for one in record["looks"]) == 3
    assert record["looks"][-1]["second"] < record["looks"][0]["second"]
    assert 0 < record["share_of_step_time"] and "stopped" not in record
    json.dumps(record, allow_nan=False)


def test_dropout_and_preference_losses_are_looked_at_without_a_trace(tmp_path, monkeypatch):
    plain, _ = train(tmp_path / "a", adapters(dropout=0.5))
    from tests.llmrec import test_s_dpo_training as kit

    monkeypatch.setattr(kit, "Run", lambda **given: Run(microscope=3, **given))
    watched, facts = train(tmp_path / "b", adapters(dropout=0.5))
    assert torch.equal(plain, watched)
    assert len(facts["microscope"]["looks"]) == 3


def interrupted(folder):
    """A folder with what a training leaves that is cut off in its seventh step."""

    class Cut(Exception):
        pass

    def cut(done, total, **_):
        if done == 7:
            raise Cut

    setting = Setting(MSLATS)
    folder.mkdir()
    run = Run(seed=3, device="cpu", folder=folder, microscope=10, progress=cut)
    with pytest.raises(Cut):
        tune(setting.lm, setting.rows, setting.batch_loss(), RECIPE, run)
    return folder


def test_a_resumed_training_keeps_its_earlier_looks(tmp_path):
    whole, facts = trained(tmp_path / "a", 10)
    folder = interrupted(tmp_path / "b")
    again, resumed = trained(folder, 10)
    assert torch.equal(whole, again)
    for part in ("looks", "course"):
        assert resumed["microscope"][part] == facts["microscope"][part]
    assert [one["step"] for one in facts["microscope"]["course"]] == list(range(1, 10))


def test_a_damaged_record_is_set_aside_and_the_training_goes_on(tmp_path):
    whole, _ = trained(tmp_path / "a", 10)
    folder = interrupted(tmp_path / "b")
    record = folder / microscope.FILE
    record.write_text(record.read_text().replace('"rows"', '"sour"'))
    again, resumed = trained(folder, 10)
    assert torch.equal(whole, again)
    assert (folder / f"{microscope.FILE}.damaged-1").is_file()
    assert min(one["step"] for one in resumed["microscope"]["course"]) > 1, "only what came after"


def test_a_look_that_fails_is_told_and_ends_nothing(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no memory left")

    plain, _ = trained(tmp_path / "a", None)
    monkeypatch.setattr(microscope, "look", broken)
    watched, facts = trained(tmp_path / "b", 4)
    assert torch.equal(plain, watched)
    assert facts["microscope"]["stopped"] == "at step 0: no memory left"
    assert facts["microscope"]["looks"] == []


def test_a_strangers_loss_is_recorded_with_its_own_numbers(tmp_path):
    class Mine(MSL):
        """A plugin's loss."""

        name = "mine"

        def watch(self):
            return {"tau": 1.0, "mood": 7.0}

    _, facts = trained(tmp_path, 2, Mine)
    assert [one["mood"] for one in facts["microscope"]["looks"]] == [7.0, 7.0]


def test_what_trains_no_token_loss_says_why(tmp_path):
    run = Run(seed=0, device="cpu", folder=tmp_path, microscope=0)
    assert "over answer tokens" in run.facts["microscope"]["left_out"]
    assert Run(seed=0, device="cpu", folder=tmp_path).facts == {}


def test_looks_are_as_many_as_the_training_can_pay_for():
    rows, steps = schedule(64, 785, 0)
    assert rows == 16 and steps[0] == 0 and steps[-1] == 785
    assert len(steps) * rows * microscope.COST <= 0.011 * 64 * 785
    assert schedule(8, 16, 0) == (2, [0, 8, 16])  # too short to pay for three
    assert len(schedule(64, 785, 40)[1]) == 40
    assert schedule(8, 16, 3) == (16, [0, 8, 16])  # asked for, so paid for
    assert schedule(8, 1, 0)[1] == [0, 1]
    assert np.diff(schedule(128, 79000, 0)[1]).min() > 1000
