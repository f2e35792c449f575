"""S-DPO as training: resumed, over TRL, from the LML model, with references computed once."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trl

from bench.cell import Run
from bench.errors import ConfigError, ContractError, Unavailable
from bench.method import configure, keep
from bench.types import Catalogue, Exam, Queries, Ragged, Windows
from llmrec.generative.bigrec import BIGRec
from llmrec.lm import backbone
from llmrec.lm.backbone import Backbone, Lora, adapted
from llmrec.preference import reference as references
from llmrec.preference import trl_trainer
from llmrec.preference.s_dpo import SDPO
from llmrec.preference.setup import preference_training
from llmrec.prompt import Prompt
from llmrec.training.checkpoint import last_checkpoint

TITLES = (
    "",
    *(f"{a} {b}" for a in ("Red", "Blue", "Old") for b in ("Kite", "Ball", "Doll", "Top")),
)


def windows(n=24):
    chance = np.random.default_rng(0)
    rows = [1 + chance.permutation(12)[: chance.integers(2, 6)] for _ in range(n)]
    histories, target_W = [r[:-1] for r in rows], np.array([r[-1] for r in rows], np.int32)
    return Windows(
        Catalogue(TITLES, "toy"), np.arange(n), Ragged.of(histories), target_W, np.arange(n)
    )


TRAIN = windows()


def adapters(dropout=0.0):
    lm = backbone.load("tiny")
    model = adapted(lm.model, Lora(r=4, dropout=dropout), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # as if it had been tuned
                parameter.normal_(std=0.02, generator=torch.Generator().manual_seed(len(name)))
    return Backbone(model, lm.tokenizer, name="adapted", pretrained=True)


def method_for(lm, batch=8, micro_batch=None, **options):
    options = {"lr": 3e-3, "scratch_lr": 3e-3, "warmup": 0.1, **options}
    config = {"batch": batch, "micro_batch": micro_batch, "loss_options": options}
    method = BIGRec(configure(BIGRec, config), loss="s_dpo", backbone="tiny")
    method.lm = lm
    method._index(TRAIN.catalogue)
    return method


def run_in(folder, **more):
    folder.mkdir(parents=True, exist_ok=True)
    return Run(seed=3, device="cpu", folder=folder, **more)


def train(folder, lm, validate=None, progress=None, rows=TRAIN, **options):
    run = run_in(folder) if progress is None else run_in(folder, progress=progress)
    training = preference_training(SDPO, method_for(lm, **options), rows, run)
    training.run(lm, run, validate)
    return flat(lm), run.facts


def flat(lm):
    return torch.cat([p.detach().flatten().clone() for p in lm.trainable().values()])


def moved(lm, weights):
    return (weights - flat(lm)).norm()


def test_begins_at_ln_4_and_learns_to_prefer_the_target(tmp_path):
    rows = TRAIN.take(np.flatnonzero([3 not in history for history in TRAIN.history]))
    rows = replace(rows, target_W=np.full(len(rows), 3, np.int32))  # everybody's next item
    lm = adapters()
    weights, facts = train(tmp_path, lm, rows=rows, lr=2e-2, epochs=4)
    assert facts["first_loss"] == pytest.approx(math.log(4), abs=1e-5)
    assert facts["loss_by_epoch"][-1] < 0.5 * math.log(4)
    assert facts["reward_margin_by_epoch"][-1] > 0.5 > facts["reward_margin_by_epoch"][0]
    assert facts["reward_accuracy_by_epoch"][-1] > 0.9
    assert facts["epochs"] == 4 and facts["steps"] == 4 * -(-len(rows) // 8)
    assert moved(adapters(), weights) > 0


def test_routes_and_micro_batches_train_the_same(tmp_path):
    fast, facts = train(tmp_path / "a", adapters(dropout=0.5))
    small, _ = train(tmp_path / "b", adapters(dropout=0.5), micro_batch=3)
    plain, plain_facts = train(tmp_path / "c", adapters(dropout=0.5), route="plain")
    distance = moved(adapters(), fast)
    assert distance > 0.05
    assert (fast - small).norm() < 1e-3 * distance
    assert (fast - plain).norm() < 1e-3 * distance
    assert facts["train_tokens"] < 0.6 * plain_facts["train_tokens"]


def test_all_weights_and_every_epochs_own_negatives(tmp_path):
    lm = backbone.load("tiny")
    weights, facts = train(tmp_path, lm, resample="epoch")
    assert facts["first_loss"] == pytest.approx(math.log(4), abs=1e-4)
    assert moved(backbone.load("tiny"), weights) > 0.1
    once, _ = train(tmp_path / "once", backbone.load("tiny"))
    assert (weights - once).norm() > 1e-3


class Stop(Exception):
    pass


@pytest.mark.parametrize("route", ["shared_prefix", pytest.param("trl", marks=pytest.mark.slow)])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, route):
    def fit(folder, stop_at=None):
        scores = {0: 0.2, 1: 0.3, 2: 0.1}

        def validate():
            path = last_checkpoint(folder / "tuning")
            return {"ndcg@5": scores[0 if path is None else int(path.rpartition("-")[2]) // 3]}

        def progress(done, total, **_):
            if done == stop_at:
                raise Stop

        return train(
            folder,
            adapters(dropout=0.3),
            validate,
            progress,
            resample="epoch",
            dropout=True,
            route=route,
        )

    whole, facts = fit(tmp_path / "whole")
    with pytest.raises(Stop):
        fit(tmp_path / "parts", stop_at=5)
    resumed, resumed_facts = fit(tmp_path / "parts")
    assert torch.equal(whole, resumed)
    for name in ("reward_margin_by_epoch", "train_tokens", "first_loss", "best_epoch", "steps"):
        assert facts[name] == resumed_facts[name]
    assert facts["best_epoch"] == 2


def test_trl_trains_the_same_adapters(tmp_path):
    ours, facts = train(tmp_path / "ours", adapters(dropout=0.5))
    lm = adapters(dropout=0.5)
    theirs, their_facts = train(tmp_path / "trl", lm, route="trl", micro_batch=4)
    distance = moved(adapters(), ours)
    assert (ours - theirs).norm() < 1e-3 * distance
    assert list(lm.model.peft_config) == ["default"]
    assert lm.tokenizer.pad_token is None
    assert their_facts["first_loss"] == pytest.approx(math.log(4), abs=1e-5)
    for name in ("reward_chosen_by_epoch", "reward_margin_by_epoch", "loss_by_epoch"):
        assert their_facts[name] == pytest.approx(facts[name], abs=1e-3)


def test_trl_weighs_every_row_alike_in_a_short_last_step(tmp_path):
    """All rows in one step of several micro-batches, the last of them short."""
    few = TRAIN.take(np.arange(7))
    ours, facts = train(tmp_path / "ours", adapters(), rows=few)
    theirs, their_facts = train(tmp_path / "trl", adapters(), rows=few, route="trl", micro_batch=4)
    assert (ours - theirs).norm() < 1e-3 * moved(adapters(), ours)
    assert their_facts["loss_by_epoch"] == pytest.approx(facts["loss_by_epoch"], abs=1e-3)


@pytest.mark.parametrize(
    ("whole", "most", "size"), [(128, 32, 32), (48, 32, 24), (7, 5, 1), (8, 0, 1)]
)
def test_the_micro_batch_divides_the_batch(whole, most, size):
    assert trl_trainer.divisor(whole, most) == size


def test_the_first_try_of_trl_counts_sequences(tmp_path):
    _, facts = train(tmp_path, adapters(), route="trl", negatives=7, epochs=1)
    assert facts["micro_batch"] == 4  # 32 sequences at a time on a CPU


def test_trl_still_has_the_names_we_lean_on():
    assert trl_trainer.changes() == []


def test_a_changed_trl_is_named_with_the_way_out(monkeypatch):
    monkeypatch.delattr(trl.DPOTrainer, "_compute_loss")
    monkeypatch.setattr(trl.trainer.utils, "use_adapter", lambda model, name, more: None)
    with pytest.raises(
        Unavailable, match=r"_compute_loss is gone; use_adapter takes.*shared_prefix"
    ):
        trl_trainer.check(adapters())


def test_trl_refuses_what_it_cannot_train(tmp_path):
    with pytest.raises(ConfigError, match=r"all weights of 'tiny'.*shared_prefix"):
        train(tmp_path, backbone.load("tiny"), route="trl")
    lm = adapters()
    lm.embed = None
    lm.__class__ = type("Soft", (Backbone,), {"embed": lambda self, ids, slots=None: None})
    with pytest.raises(ConfigError, match="collaborative vectors"):
        train(tmp_path, lm, route="trl")
    with pytest.raises(ConfigError, match=r"batch is 8.*multiple of micro_batch"):
        train(tmp_path, adapters(), route="trl", micro_batch=3)


def test_the_reference_is_computed_once_and_only_for_these_weights(tmp_path, monkeypatch):
    calls = []
    dull = references._reference
    monkeypatch.setattr(references, "_reference", lambda *a: (calls.append(1), dull(*a))[1])
    run = run_in(tmp_path)
    rows = [preference_training(SDPO, method_for(adapters()), TRAIN, run).rows for _ in range(2)]
    assert len(calls) == 1
    for one, two in zip(*rows, strict=True):
        np.testing.assert_array_equal(one.reference_EJ, two.reference_EJ)
    other = adapters()
    with torch.no_grad():
        next(iter(other.trainable().values())).mul_(1.5)
    preference_training(SDPO, method_for(other), TRAIN, run)
    assert len(calls) == 2
    preference_training(SDPO, method_for(adapters(), resample="epoch", epochs=2), TRAIN, run)
    assert len(calls) == 4


def test_references_of_other_prompts_or_vectors_are_others(tmp_path):
    lm, run = adapters(), run_in(tmp_path)
    first, second, *rest = preference_training(SDPO, method_for(lm), TRAIN, run).rows
    leaf_EWJ = np.stack([row.leaf_EJ for row in (first, second, *rest)], 1)

    def mark(*ids, slots=0, lm=lm):
        rows = [
            replace(row, prompt=Prompt(np.array(i), np.full(len(i), slots)))
            for row, i in zip((first, second), ids, strict=True)
        ]
        return references._mark(lm, [*rows, *rest], leaf_EWJ)

    shown = adapters()
    shown.register_buffer("vector_NF", torch.ones(3), persistent=False)
    marks = [
        mark([1, 2], [3]),
        mark([1], [2, 3]),
        mark([1, 2], [3], slots=5),
        mark([1, 2], [3], lm=shown),
    ]
    assert len(set(marks)) == 4 and mark([1, 2], [3]) == marks[0]


def test_a_broken_start_model_is_refused(tmp_path):
    lm = adapters()
    with torch.no_grad():
        next(p for n, p in lm.named_parameters() if "lora_B" in n).fill_(float("nan"))
    with pytest.raises(ContractError, match=r"training row 0 .*not finite.*--reuse never"):
        preference_training(SDPO, method_for(lm), TRAIN, run_in(tmp_path))


def test_bigrec_goes_on_from_its_lml_model(tmp_path):
    exam = Exam(
        Queries(TRAIN.catalogue, TRAIN.user_W, TRAIN.history, TRAIN.timestamp_W), TRAIN.target_W
    )
    config = {"epochs": 1, "batch": 8, "valid_rows": 4}
    start = BIGRec(configure(BIGRec, config), loss="lml", decoder="beam", backbone="tiny")
    start.fit(TRAIN, exam, run_in(tmp_path / "lml"))
    keep(start, tmp_path / "model")
    tuned = flat(start.lm)
    options = {"epochs": 1, "scratch_lr": 1e-9}
    method = BIGRec(
        configure(BIGRec, {**config, "loss_options": options}),
        loss="s_dpo",
        decoder="beam",
        backbone="tiny",
    )
    run = run_in(tmp_path / "s_dpo", inputs={"start": tmp_path / "model"})
    method.fit(TRAIN, exam, run)
    torch.testing.assert_close(flat(method.lm), tuned, rtol=0, atol=1e-6)
    assert not torch.equal(flat(method.lm), tuned)
    assert run.facts["first_loss"] == pytest.approx(math.log(4), abs=1e-4)
    assert len(method.recommend(exam.queries, 5)) == len(TRAIN)
