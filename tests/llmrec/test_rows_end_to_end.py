"""Rows end to end against padded rows, and a training step in which the host waits for nothing."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
import transformers

from llmrec.lm.backbone import Backbone, load
from llmrec.lm.device_costs import costs_of
from llmrec.losses.base import Answers
from llmrec.losses.lml import LML
from llmrec.losses.msl import MSL
from llmrec.losses.msl_ats import MSLATS
from llmrec.preference.rows import PreferenceRow
from llmrec.preference.s_dpo import SDPO
from llmrec.preference.training import PreferenceBatchLoss
from llmrec.prompt import Prompt
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.compiled import CompiledLayers
from llmrec.training.documents import Room
from llmrec.training.loop import Recipe, tune
from llmrec.training.packing import Example
from llmrec.training.shared_prefix import LogProbs
from llmrec.training.trainer import Tuner
from llmrec.trie import Trie
from speed.operators import Operators
from tests.llmrec.test_tuning import run_in

END, OPENING, V = 1, 9, 512
SHAPE = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2)
FAMILIES = {
    "llama": (transformers.LlamaConfig, {"num_hidden_layers": 2}),
    "qwen2": (transformers.Qwen2Config, {"num_hidden_layers": 2}),
    "qwen3": (transformers.Qwen3Config, {"num_hidden_layers": 2, "head_dim": 8}),
    "gemma2": (  # one layer of two sees no further than 16 tokens, fewer than a row has
        transformers.Gemma2Config,
        {"num_hidden_layers": 2, "head_dim": 8, "sliding_window": 16},
    ),
}
BUDGET = 96


def random_trie(seed=0, n=40):
    chance = np.random.default_rng(seed)
    return Trie.of([[3, *chance.integers(4, 9, chance.integers(0, 5)), END] for _ in range(n)], END)


def random_rows(trie, n=12):
    """Rows of different length behind one opening."""
    chance = np.random.default_rng(1)
    opening_S = chance.integers(20, V, OPENING)
    rows = []
    for number in range(n):
        rest = chance.integers(20, V, chance.integers(2, 30))
        ids = np.concatenate([opening_S, rest]).astype(np.int32)
        leaf = int(chance.integers(trie.n_leaves))
        rows.append(Example(Prompt(ids, np.zeros_like(ids)), leaf, number=number))
    return rows


def model_of(family):
    kind, more = FAMILIES[family]
    tiny = load("tiny", seed=0)
    torch.manual_seed(0)
    config = kind(vocab_size=V, **SHAPE, **more)
    model = transformers.AutoModelForCausalLM.from_config(config).float().train()
    with torch.no_grad():  # so that attention is not nearly uniform
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.2)
    return Backbone(model, tiny.tokenizer, name=family, pretrained=False)


def batch_loss_of(kind, trie, packed):
    if kind is SDPO:
        loss = SDPO(None, trie, vocabulary=V, avt=2.0)
        log_probs = LogProbs(loss, trie, OPENING, packed=packed)
        return PreferenceBatchLoss(loss, log_probs, steps_per_epoch=1)
    options = {"eta": 0.9} if kind is MSLATS else None
    loss = kind(options, trie, vocabulary=V, avt=2.0)
    return TokenBatchLoss(loss, trie, shared=OPENING, packed=packed)


def rows_for(kind, trie):
    rows = random_rows(trie)
    if kind is not SDPO:
        return rows
    chance, made = np.random.default_rng(2), []
    for row in rows:
        leaf_J = chance.permutation(trie.n_leaves)[:4]
        made.append(PreferenceRow(row.prompt, leaf_J[None], -chance.random((1, 4)).astype("f")))
    return made


def step(lm, batch_loss, rows):
    """Loss, gradient and micro-batches of a step."""
    lm.zero_grad()
    parts = list(batch_loss.parts(rows, len(rows)))
    losses = [batch_loss.sum(lm, part) / batch_loss.count(rows) for part in parts]
    sum(losses).backward()
    total = float(sum(losses).detach())
    batch_loss.settle(lm, total)
    return total, torch.cat([p.grad.flatten() for p in lm.trainable().values()]), len(parts)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [LML, MSL, SDPO], ids=lambda kind: kind.name)
def test_rows_end_to_end_give_what_padded_rows_give(family, kind):
    lm, trie = model_of(family), random_trie()
    rows = rows_for(kind, trie)
    padded, wanted, _ = step(lm, batch_loss_of(kind, trie, 0), rows)
    packed, found, parts = step(lm, batch_loss_of(kind, trie, BUDGET), rows)
    assert parts > 2
    assert packed == pytest.approx(padded, rel=1e-6)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5


def test_every_row_has_a_place_and_lengths_are_few():
    room, size_B = Room(BUDGET, OPENING), np.random.default_rng(0).integers(3, 80, 200)
    parts = list(room.parts(size_B, 6))
    assert sorted(np.concatenate(parts)) == list(range(200)) and max(map(len, parts)) <= 6
    tokens = [OPENING + int(size_B[part].sum()) for part in parts]
    assert max(tokens) <= BUDGET
    assert {room.length(n) for n in range(1, BUDGET + 1)} == {16, 24, 48, 96}
    assert room.length(BUDGET + 1) == 2 * BUDGET  # a row that is longer than the budget


class NoWaiting(Operators):
    """Refuses every operator whose result the host has to wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = super().__torch_dispatch__(func, types, args, kwargs)
        assert not self.waits, f"the host waits for {func}"
        return found


@pytest.mark.parametrize("kind", [LML, MSL, MSLATS, SDPO], ids=lambda kind: kind.name)
def test_the_host_waits_for_nothing_in_the_micro_batches_of_a_step(kind):
    lm, trie = model_of("llama"), random_trie()
    rows, batch_loss = rows_for(kind, trie), batch_loss_of(kind, trie, BUDGET)
    with NoWaiting() as seen:
        for part in batch_loss.parts(rows, len(rows)):
            (batch_loss.sum(lm, part) / batch_loss.count(rows)).backward()
    assert seen.calls.total() > 100
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoWaiting():
        float(torch.ones(()))


@pytest.mark.parametrize("kind", [LML, MSL, SDPO], ids=lambda kind: kind.name)
def test_a_step_runs_on_a_device_that_has_no_numbers(kind, monkeypatch):
    """Whatever reads a tensor, or its shape off its numbers, raises on the device ``meta``."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which meta has not
    lm, trie = model_of("gemma2").to("meta"), random_trie()
    rows, batch_loss = rows_for(kind, trie), batch_loss_of(kind, trie, BUDGET)
    for part in batch_loss.parts(rows, len(rows)):
        batch_loss.sum(lm, part).backward()
    assert all(p.grad is not None and p.grad.is_meta for p in lm.trainable().values())


def test_a_step_of_the_trainer_reads_its_loss_and_nothing_else(tmp_path, monkeypatch):
    trie = random_trie()
    rows, lm, reads = random_rows(trie), model_of("llama"), []
    whole = Tuner.training_step

    def counted(self, *given):
        with Operators() as seen:
            total = whole(self, *given)
        reads.append(seen.waits)
        return total

    monkeypatch.setattr(Tuner, "training_step", counted)
    recipe = Recipe(epochs=1, batch=6, warmup_steps=0)
    tune(lm, rows, batch_loss_of(MSL, trie, BUDGET), recipe, run_in(tmp_path))
    assert reads == [1, 1]


def test_a_plan_made_beforehand_is_the_one_a_loss_makes_itself():
    trie = random_trie(3)
    loss = MSL(None, trie, vocabulary=V, avt=2.0)
    answers = Answers.of(trie, np.arange(trie.n_leaves))
    hidden_RD = torch.randn(len(answers), 32, requires_grad=True)
    head = model_of("llama").head
    planned = answers.planned(trie, hidden_RD.device)
    found = [loss.per_row(hidden_RD, head, one) for one in (answers, planned)]
    assert torch.equal(*found) and len(planned.plan.kept_R) > 20
    slopes = [torch.autograd.grad(nll_R.sum(), hidden_RD)[0] for nll_R in found]
    assert torch.equal(*slopes)


def test_compiled_layers_give_the_same_step():
    lm, trie = model_of("llama"), random_trie()
    rows = random_rows(trie)
    plain, wanted, _ = step(lm, batch_loss_of(MSL, trie, 8 * BUDGET), rows)
    compiled = CompiledLayers(lm, wanted=True, backend="aot_eager")
    total, found, _ = step(lm, batch_loss_of(MSL, trie, 8 * BUDGET), rows)
    with compiled.paused():
        assert step(lm, batch_loss_of(MSL, trie, 8 * BUDGET), rows)[0] == plain
    compiled.end()
    assert total == pytest.approx(plain, rel=1e-6)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-5


def test_a_training_goes_on_where_layers_cannot_be_compiled(tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise OSError("no compiler here")

    trie = random_trie()
    rows, made = random_rows(trie), {}
    monkeypatch.setitem(CompiledLayers.__init__.__kwdefaults__, "backend", broken)
    for how in ("off", "on"):
        run, made[how] = run_in(tmp_path / how), model_of("llama")
        recipe = Recipe(epochs=1, batch=6, warmup_steps=0, compile=how)
        tune(made[how], rows, batch_loss_of(MSL, trie, BUDGET), recipe, run)
    assert run.facts["compiled"].startswith("no, as ") and "no compiler" in run.facts["compiled"]
    for one, other in zip(made["off"].parameters(), made["on"].parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_table_has_a_column_for_each_kind_of_device():
    assert not costs_of("cpu").packed_rows and costs_of("cuda:1").packed_rows
    assert costs_of("cpu").reads is False and costs_of("meta") is costs_of("cuda")
