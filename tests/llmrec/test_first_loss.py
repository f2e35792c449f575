"""A preference training begins with equal rewards, in 16 bits as well."""

import math

import numpy as np
import pytest
import torch

from bench.cell import Run
from bench.method import configure
from bench.types import Catalogue, Ragged, Windows
from llmrec.generative.bigrec import BIGRec
from llmrec.lm import backbone
from llmrec.lm.scratch import ScratchShape, tiny_tokenizer
from llmrec.preference import reference
from llmrec.preference.s_dpo import SDPO
from llmrec.preference.setup import preference_training
from llmrec.training.shared_prefix import LogProbs

TITLES = ("", *(f"{a} {b}" for a in ("Red", "Blue old") for b in ("Kite", "Ball", "Doll of Tin")))


def windows(n=12):
    chance = np.random.default_rng(0)
    rows = [1 + chance.permutation(6)[: chance.integers(2, 4)] for _ in range(n)]
    return Windows(
        Catalogue(TITLES, "toy"),
        np.arange(n),
        Ragged.of([row[:-1] for row in rows]),
        np.array([row[-1] for row in rows], np.int32),
        np.arange(n),
    )


def sharp(dtype):
    """A model deep and sharp enough that rounding shows in its log-probabilities."""
    shape = ScratchShape(hidden=48, layers=3, heads=2, feed_forward=96)
    lm = backbone.small("tiny", tiny_tokenizer(), shape=shape, seed=0)
    with torch.no_grad():
        for weight in lm.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    return lm.to(dtype)


def prepared(folder, dtype, **options):
    """A training that is ready to run, its model and its run."""
    folder.mkdir()
    config = {"batch": 6, "micro_batch": 4, "loss_options": options}
    method = BIGRec(configure(BIGRec, config), loss="s_dpo", backbone="tiny")
    method.lm = sharp(dtype)
    train = windows()
    method._index(train.catalogue)
    run = Run(seed=3, device="cpu", folder=folder)
    return preference_training(SDPO, method, train, run), method.lm, run


def first_step(folder, dtype, **options):
    """Facts after the first optimizer step's losses, without taking the step."""
    training, lm, run = prepared(folder, dtype, **options)
    order = np.random.default_rng([run.seed_for("batches"), 0]).permutation(len(training.rows))[:6]
    batch_loss = training.batch_loss
    lm.train()
    for part in batch_loss.parts([training.rows[row] for row in order], 4):
        batch_loss.sum(lm, part)
    batch_loss.settle(lm, 0.0)
    return batch_loss.facts()


@pytest.mark.parametrize("route", ["shared_prefix", "plain"])
def test_policy_and_reference_are_the_same_numbers_in_16_bits(tmp_path, route):
    facts = first_step(tmp_path / "same", torch.bfloat16, route=route)
    assert facts["first_loss_off"] == pytest.approx(0, abs=1e-7)
    assert facts["first_loss"] == pytest.approx(math.log(4), abs=1e-6)


def test_in_16_bits_the_reference_goes_through_the_trainings_own_micro_batches(
    tmp_path, monkeypatch
):
    seen, dull = {False: [], True: []}, LogProbs.__call__

    def log_probs(self, lm, prompts, leaf_BJ):
        seen[torch.is_grad_enabled()].append([prompt.ids.tobytes() for prompt in prompts])
        return dull(self, lm, prompts, leaf_BJ)

    prepared(
        tmp_path / "probed", torch.bfloat16
    )  # the probe of the model's layouts, once a process
    monkeypatch.setattr(LogProbs, "__call__", log_probs)
    training, lm, run = prepared(tmp_path / "a", torch.bfloat16, epochs=1)
    training.run(lm, run)
    assert len(seen[True]) == 4 and seen[True] == seen[False]
    assert run.facts["first_loss_off"] == pytest.approx(0, abs=1e-7)


def test_every_epochs_negatives_are_referred_to_in_that_epochs_batches(tmp_path):
    facts = first_step(tmp_path / "e", torch.bfloat16, resample="epoch", epochs=2)
    assert facts["first_loss_off"] == pytest.approx(0, abs=1e-7)


def test_in_32_bits_the_batches_do_not_matter(tmp_path):
    facts = first_step(tmp_path / "f", torch.float32)
    assert facts["first_loss_off"] == pytest.approx(0, abs=1e-4)


def test_the_fact_says_by_how_much_a_training_begins_elsewhere(tmp_path, monkeypatch):
    dull = reference._all_references
    monkeypatch.setattr(
        reference, "_all_references", lambda *given: dull(*given) + np.arange(4, dtype=np.float32)
    )
    found = first_step(tmp_path / "g", torch.float32)["first_loss_off"]
    gaps = -np.arange(1, 4)
    assert found == pytest.approx(math.log(1 + np.exp(gaps).sum()) - math.log(4), abs=1e-4)
