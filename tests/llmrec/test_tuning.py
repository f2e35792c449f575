import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch

from bench.cell import Run
from bench.errors import ConfigError, Unavailable
from bench.types import Catalogue
from llmrec.lm import backbone
from llmrec.losses.base import NotFinite
from llmrec.losses.bear import BEAR
from llmrec.losses.lml import LML
from llmrec.losses.msl import MSL
from llmrec.losses.msl_ats import MSLATS
from llmrec.prompt import Prompter
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.checkpoint import keep_only, last_checkpoint
from llmrec.training.loop import Recipe, tune
from llmrec.training.packing import Example, lay_out, states
from llmrec.training.trainer import Tuner
from llmrec.trie import for_titles
from speed.harms import HARMS

WORDS = ("red", "blue", "green", "small", "old")
THINGS = ("lorry", "kite", "train set", "ball", "doll")
TITLES = ("", *(f"The {word} {thing}" for word in WORDS for thing in THINGS))


# few valid tokens in a small catalogue; and a divisor that only the forward passes give
OPTIONS = {MSLATS: {"eta": 0.9}, BEAR: {"norm": "weight", "lam": 2.0, "xi": 0.5}}


class Setting:
    """A tiny model, a catalogue of 25 titles and 20 training rows."""

    def __init__(self, loss=LML, seed=0):
        self.lm = backbone.load("tiny", seed=seed)
        self.trie = for_titles(TITLES, self.lm.tokenizer)
        self.prompter = Prompter(Catalogue(TITLES, "toy"), self.lm.tokenizer)
        rng = np.random.default_rng(1)
        self.rows = [self.row(rng.integers(1, 26, rng.integers(2, 6))) for _ in range(20)]
        avt = self.trie.avt()
        self.loss = loss(OPTIONS.get(loss), self.trie, vocabulary=self.lm.vocabulary, avt=avt)

    def row(self, history):
        leaf = int(self.trie.leaf_of_item_N[history[-1]])
        return Example(self.prompter.prompt(history, training=True), leaf)

    def batch_loss(self, shared=True):
        return TokenBatchLoss(self.loss, self.trie, shared=self.prompter.shared if shared else 0)


def gradient(setting, rows, size, *, shared=True):
    setting.lm.zero_grad()
    batch_loss = setting.batch_loss(shared)
    for part in batch_loss.parts(rows, size):
        (batch_loss.sum(setting.lm, part) / batch_loss.count(rows)).backward()
    return torch.cat([p.grad.flatten() for p in setting.lm.trainable().values()])


def full_gradient(setting, rows):
    """The dull way: every row alone and whole, all logits, the library's own cross entropy."""
    lm, trie = setting.lm, setting.trie
    lm.zero_grad()
    for row in rows:
        answer = torch.from_numpy(trie.answer[row.leaf].astype(np.int64))
        prompt = torch.from_numpy(row.prompt.ids.astype(np.int64))
        ids = torch.cat([prompt, answer])
        logits = lm.causal(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, answer, reduction="sum")
        (loss / sum(trie.answer.lengths[r.leaf] for r in rows)).backward()
    return torch.cat([p.grad.flatten() for p in lm.trainable().values()])


def run_in(folder, progress=None):
    more = {} if progress is None else {"progress": progress}
    return Run(seed=3, device="cpu", folder=folder, **more)


RECIPE = Recipe(epochs=3, lr=3e-3, batch=8, warmup_steps=2, micro_batch=4)


def test_gradient_equals_whole_rows_with_all_logits():
    setting = Setting(LML)
    torch.testing.assert_close(
        gradient(setting, setting.rows[:8], 8), full_gradient(setting, setting.rows[:8])
    )


@pytest.mark.parametrize("loss", [LML, MSL, MSLATS])
def test_gradient_does_not_depend_on_micro_batches_or_the_shared_opening(loss):
    setting = Setting(loss)
    rows = setting.rows[:8]
    whole = gradient(setting, rows, 8)
    assert whole.norm() > 0
    torch.testing.assert_close(gradient(setting, rows, 2), whole, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient(setting, rows, 1), whole, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        gradient(setting, rows, 8, shared=False), whole, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("loss", [LML, MSL, MSLATS])
def test_the_mean_over_answers_is_the_sum_over_their_tokens(loss):
    setting = Setting(loss)
    rows = setting.rows[:8]
    by_token = gradient(setting, rows, 4) * setting.batch_loss().count(rows)
    setting.loss.config = setting.loss.config.replace(loss_norm="seq_sum_mean")
    assert setting.batch_loss().count(rows) == 8
    torch.testing.assert_close(gradient(setting, rows, 4), by_token / 8)
    with pytest.raises(ConfigError, match="one of token_mean, seq_sum_mean"):
        loss({"loss_norm": "sum"}, setting.trie, vocabulary=512, avt=9.0)


@pytest.mark.parametrize("loss", [LML, MSL])
def test_a_loss_that_is_not_finite_names_the_training_rows(loss):
    setting = Setting(loss)
    rows = [dataclasses.replace(row, number=40 + i) for i, row in enumerate(setting.rows[:3])]
    with torch.no_grad():
        setting.lm.causal.model.norm.weight.fill_(torch.nan)
    batch_loss = setting.batch_loss()
    (part,) = batch_loss.parts(rows, 3)
    loss = float(batch_loss.sum(setting.lm, part).detach())
    with pytest.raises(NotFinite, match=rf"not finite at training rows \[{part[0].number}") as said:
        batch_loss.settle(setting.lm, loss)
    assert str(pickle.loads(pickle.dumps(said.value))) == str(said.value)


def test_forced_tails_are_not_computed():
    setting, pad = Setting(MSL), 1
    rows = setting.rows[:6]
    masked = lay_out(rows, setting.trie, setting.loss, pad=pad)
    full = lay_out(rows, setting.trie, LML(None, setting.trie, vocabulary=9, avt=2.0), pad=pad)
    assert masked.tokens < full.tokens
    assert setting.loss.count(full.answers) == len(masked.answers)
    assert len(states(setting.lm, masked)) == len(masked.answers)


def test_rows_without_a_choice_cost_a_tensor_of_zero_also_where_nothing_is_trained():
    setting = Setting(MSL)
    one_title = for_titles(TITLES[:2], setting.lm.tokenizer)
    with pytest.warns(UserWarning, match="one title"):
        loss = MSL(None, one_title, vocabulary=9, avt=1.0)
    setting.lm.requires_grad_(False)
    summed = TokenBatchLoss(loss, one_title).sum(setting.lm, [setting.row([1])])
    assert summed.shape == () and summed.item() == 0.0


def test_rows_come_in_the_same_order_for_every_loss(tmp_path):
    def order(loss):
        setting, seen = Setting(loss), []
        batch_loss = setting.batch_loss()
        number = {id(row): i for i, row in enumerate(setting.rows)}
        parts = batch_loss.parts
        batch_loss.parts = lambda rows, size: (
            seen.append([number[id(row)] for row in rows]),
            parts(rows, size),
        )[1]
        tune(setting.lm, setting.rows, batch_loss, RECIPE, run_in(tmp_path / loss.__name__))
        return seen

    by_lml, by_ats = order(LML), order(MSLATS)
    assert by_lml == by_ats
    assert [len(rows) for rows in by_lml] == [8, 8, 4] * 3
    epochs = [[row for rows in by_lml[i : i + 3] for row in rows] for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1]


class Stop(Exception):
    pass


@pytest.mark.parametrize("loss", [LML, MSLATS])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, loss):
    def fit(folder, stop_at=None):
        setting = Setting(loss)
        for layer in setting.lm.causal.model.layers:
            layer.self_attn.attention_dropout = 0.2  # so that chance has to be resumed too
        scores = iter([0.2, 0.3, 0.1])  # never consulted twice for one epoch

        def progress(done, total, **_):
            if done == stop_at:
                raise Stop

        def validate():
            if last_checkpoint(folder / "tuning") and not validate.asked:
                next(scores)  # the resumed process has an epoch behind it
            validate.asked = True
            return {"ndcg@5": next(scores)}

        validate.asked = False
        run = run_in(folder, progress)
        tune(setting.lm, setting.rows, setting.batch_loss(), RECIPE, run, validate)
        return setting, run

    whole, run = fit(tmp_path / "whole")
    with pytest.raises(Stop):
        fit(tmp_path / "halves", stop_at=5)
    halves, resumed = fit(tmp_path / "halves")
    for name, value in whole.lm.trainable().items():
        assert torch.equal(value, halves.lm.trainable()[name]), name
    assert whole.loss.state_dict() == halves.loss.state_dict()
    assert run.facts["best_epoch"] == resumed.facts["best_epoch"] == 2
    assert run.facts["loss_by_epoch"] == resumed.facts["loss_by_epoch"]
    assert run.facts["train_tokens"] == resumed.facts["train_tokens"]


def _checkpoints(folder, *, best):
    """Two checkpoints of which the second names its best."""
    for step in (3, 6):
        (folder / f"checkpoint-{step}").mkdir()
        state = json.dumps({"best_global_step": best})
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    keep_only(folder, {3, 6})


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_is_set_aside_and_not_the_last(tmp_path, harm):
    _checkpoints(tmp_path, best=3)
    HARMS[harm](tmp_path / "checkpoint-6" / "trainer_state.json")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-3")
    assert [path.name for path in tmp_path.glob("*damaged*")] == ["checkpoint-6.damaged-1"]
    HARMS[harm](tmp_path / "checkpoint-3" / ".bench-files.json")
    assert last_checkpoint(tmp_path) is None


def test_a_checkpoint_that_was_being_written_is_not_the_last(tmp_path):
    _checkpoints(tmp_path, best=3)
    (tmp_path / "checkpoint-6" / ".bench-files.json").unlink()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-3")


def test_a_checkpoint_whose_best_is_damaged_cannot_be_gone_on_from(tmp_path):
    _checkpoints(tmp_path, best=3)
    HARMS["flip"](tmp_path / "checkpoint-3" / "trainer_state.json")
    assert last_checkpoint(tmp_path) is None


def test_the_loss_falls_and_training_stops_when_nothing_improves(tmp_path):
    setting = Setting(MSL)
    recipe = dataclasses.replace(RECIPE, epochs=9, patience=2)
    scores = iter([0.1, 0.5, 0.3, 0.2, 0.9])
    run = run_in(tmp_path)
    tune(
        setting.lm,
        setting.rows,
        setting.batch_loss(),
        recipe,
        run,
        lambda: {"ndcg@5": next(scores)},
    )
    assert run.facts["epochs"] == 4 and run.facts["best_epoch"] == 2
    assert run.facts["loss_by_epoch"][-1] < run.facts["loss_by_epoch"][0]


def test_an_early_end_is_remembered(tmp_path, monkeypatch):
    """Killed between its last checkpoint and its end, a run trains no further when it goes on."""
    recipe = dataclasses.replace(RECIPE, epochs=9, patience=2)

    def fit(folder, scores):
        setting, run = Setting(MSLATS), run_in(folder)
        setting.loss.tau = 3.0  # far from where it is drawn to, so that every step moves it
        left = iter(scores)
        tune(
            setting.lm,
            setting.rows,
            setting.batch_loss(),
            recipe,
            run,
            lambda: {"ndcg@5": next(left)},
        )
        return setting, run

    save = Tuner._save_checkpoint

    def killed(tuner, *rest):
        save(tuner, *rest)
        if tuner.state.epoch == 4:
            raise Stop

    whole, run = fit(tmp_path / "whole", [0.1, 0.5, 0.3, 0.2])
    with monkeypatch.context() as patched:
        patched.setattr(Tuner, "_save_checkpoint", killed)
        with pytest.raises(Stop):
            fit(tmp_path / "halves", [0.1, 0.5, 0.3, 0.2])
    halves, resumed = fit(tmp_path / "halves", [])
    for name, value in whole.lm.trainable().items():
        assert torch.equal(value, halves.lm.trainable()[name]), name
    assert whole.loss.state_dict() == halves.loss.state_dict()
    timed = {"train_tokens_per_second"}
    assert run.facts.keys() == resumed.facts.keys()
    assert all(run.facts[key] == resumed.facts[key] for key in run.facts.keys() - timed)
    assert run.facts["epochs"] == 4 and run.facts["best_epoch"] == 2
    assert run.facts["tau_of_best_epoch"] != run.facts["tau"] == whole.loss.tau


def with_dropout(setting):
    for layer in setting.lm.causal.model.layers:
        layer.self_attn.attention_dropout = 0.2
    return setting


def test_micro_batches_shrink_when_memory_runs_out(tmp_path):
    setting = with_dropout(Setting(MSLATS))  # what was drawn in vain must be drawn again
    batch_loss = setting.batch_loss()
    whole = batch_loss.sum

    def starved(lm, rows):
        summed = whole(lm, rows)  # so that the loss has seen rows it must forget again
        if len(rows) > 2:
            raise torch.cuda.OutOfMemoryError
        return summed

    batch_loss.sum = starved
    run = run_in(tmp_path / "a")
    tune(setting.lm, setting.rows, batch_loss, dataclasses.replace(RECIPE, epochs=1), run)
    assert run.facts["micro_batch"] == 2
    roomy, other = with_dropout(Setting(MSLATS)), run_in(tmp_path / "b")
    recipe = dataclasses.replace(RECIPE, epochs=1, micro_batch=2)
    tune(roomy.lm, roomy.rows, roomy.batch_loss(), recipe, other)
    assert run.facts["train_tokens"] == other.facts["train_tokens"]
    for name, value in roomy.lm.trainable().items():
        assert torch.equal(setting.lm.trainable()[name], value), name
    assert setting.loss.tau == pytest.approx(roomy.loss.tau)


def test_a_row_that_never_fits_is_reported(tmp_path):
    setting = Setting()
    batch_loss = setting.batch_loss()

    def starved(lm, rows):
        raise torch.cuda.OutOfMemoryError

    batch_loss.sum = starved
    with pytest.raises(Unavailable, match="single training row"):
        tune(setting.lm, setting.rows, batch_loss, RECIPE, run_in(tmp_path))
