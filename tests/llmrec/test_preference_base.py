"""A second preference loss is a formula: everything else comes with the base class."""

import pytest
import torch
from test_s_dpo_training import TRAIN, adapters, flat, method_for, run_in
from torch.nn import functional

from bench.conformance import examine_component
from bench.registry import losses
from llmrec.generative.bigrec import BIGRec
from llmrec.preference.base import PreferenceLoss
from llmrec.preference.setup import preference_training

# what a stranger writes to have DPO averaged over the negatives


class MeanDPO(PreferenceLoss):
    """DPO's loss, averaged over the negatives."""

    def of_rewards(self, reward_BJ):
        gap_BK = self.config.beta * (reward_BJ[:, :1] - reward_BJ[:, 1:])
        return -functional.logsigmoid(gap_BK).mean(1)


@pytest.fixture
def registered():
    losses.register("mean_dpo")(MeanDPO)
    yield
    losses.drop(MeanDPO.__module__)


def test_it_keeps_the_contract(registered):
    findings = list(examine_component(losses.get("mean_dpo")))
    assert [f for f in findings if not f.ok] == [] and len(findings) >= 8


def test_it_trains_the_tiny_backbone(registered, tmp_path):
    config = {"lr": 2e-2, "epochs": 4, "warmup": 0.1, "negatives": 2}
    lm, run = adapters(), run_in(tmp_path)
    before, method = flat(lm), method_for(lm, **config)
    method.loss = "mean_dpo"
    training = preference_training(losses.get("mean_dpo"), method, TRAIN, run)
    training.run(lm, run)
    first, *_, last = run.facts["loss_by_epoch"]
    assert run.facts["first_loss"] == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-5)
    assert last < first and (flat(lm) - before).norm() > 0.05


def test_methods_take_it_and_start_it_from_lml(registered):
    config = BIGRec.complete(BIGRec.Config(), loss="mean_dpo", decoder="beam")
    assert config.loss_options["negatives"] == 3
    needs = BIGRec.needs(config, loss="mean_dpo", backbone="tiny")
    assert needs["start"].loss == "lml"
