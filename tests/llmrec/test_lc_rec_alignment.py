"""LC-Rec's alignment of titles and codes: its rows, its loss, and what must not enter them."""

from dataclasses import replace

import numpy as np
import pytest
import sid_kit
import torch
from torch.nn.functional import cross_entropy

from bench.cell import Run, Size
from bench.errors import ConfigError
from bench.method import configure, keep
from llmrec.generative.lc_rec import LCRec, LCRecConfig
from llmrec.losses.msl import MSL
from llmrec.prompt import PREAMBLE, TAIL
from llmrec.sid.codes import Codes, hash_of
from llmrec.sid.sid_tokens import SidTokens
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.tasks import SeveralTasks

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 24, "scratch_lr": 1e-2}
FAST = {**SMALL, "align": "both", "epochs": 1, "batch": 16, "valid_rows": 4}
SIZES = (6, 4)


def noise():
    """The toy's titles with other ones for all items that were never trained on."""
    names = list(sid_kit.titles())
    names[sid_kit.SEEN + 1 :] = [f"a storm of {i} bees" for i in range(sid_kit.N - sid_kit.SEEN)]
    return tuple(names)


def start(folder, names=None, loss="lml", backbone="scratch", cold_seed=0, **given):
    """An LC-Rec on random codes, its run and its training rows."""
    names = names or sid_kit.titles()
    folder.mkdir(exist_ok=True)
    code_NL = np.random.default_rng(5).integers(0, SIZES, (sid_kit.N + 1, 2))
    cold_NL = code_NL[sid_kit.SEEN + 1 :]
    cold_NL[:] = np.random.default_rng(cold_seed).permutation(cold_NL)
    code_NL[0] = -1
    made = SidTokens(configure(SidTokens, {}))
    made.codes, made.measured = Codes(code_NL.astype(np.int32), SIZES, hash_of(names)), {}
    keep(made, folder / "sid")
    train = sid_kit.windows(names)
    values = LCRec.complete(configure(LCRec, {**FAST, **given}), loss=loss, decoder="beam")
    method = LCRec(values, loss=loss, decoder="beam", backbone=backbone)
    run = Run(seed=1, device="cpu", folder=folder, inputs={"sid": folder / "sid"})
    return method, run, train


def ready(folder, **given):
    """The same with model, prompts and training, before the first step."""
    method, run, train = start(folder, backbone="tiny", **given)
    method.codes = run.load("sid").codes
    method.lm = method.dress(method._bare("cpu", None), train, run)
    method._index(train.catalogue)
    return method, method._training(train, run), run


def texts(method, training, row):
    """Prompt and answer of a row as text, the end token left out."""
    trie = training.batch_loss.of_task[row.task].trie
    decode = method.lm.tokenizer.decode
    return decode(row.prompt.ids.tolist()), decode(trie.answer[row.leaf][:-1].tolist())


def test_rows_write_codes_from_titles_and_titles_from_codes(tmp_path):
    method, training, run = ready(tmp_path)
    titles = sid_kit.titles()
    seen = sid_kit.SEEN
    assert run.facts["rows_by_task"] == {
        "next_item": seen,
        "title_to_codes": seen,
        "codes_to_title": seen,
    }
    assert [row.number for row in training.rows] == list(range(3 * seen))
    item = 12
    codes = "".join(
        f"<{'ab'[level]}{code}>" for level, code in enumerate(method.codes.code_NL[item])
    )
    to_codes, to_title = (training.rows[part * seen + item - 1] for part in (1, 2))
    begin = f"{PREAMBLE}\n\n### Instruction:\nGiven the "
    assert texts(method, training, to_codes) == (
        f"{begin}title of this book, please write its codes.\n\n### Input:\nThe title of this book: "
        f'"{titles[item]}"{TAIL}',
        codes,
    )
    assert texts(method, training, to_title) == (
        f"{begin}codes of this book, please write its title.\n\n### Input:\nThe codes of this book:"
        f"{codes}{TAIL}",
        f'"{titles[item]}"',
    )


def dull_sum(method, training, row):
    """Summed cross-entropy of a row alone and whole, and its number of answer tokens."""
    trie = training.batch_loss.of_task[row.task].trie
    answer = torch.from_numpy(trie.answer[row.leaf].astype(np.int64))
    prompt = torch.from_numpy(row.prompt.ids.astype(np.int64))
    ids = torch.cat([prompt, answer])
    logits = method.lm.causal(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]
    return cross_entropy(logits, answer, reduction="sum"), len(answer)


def gradient(method, total):
    method.lm.zero_grad()
    total.backward()
    return torch.cat([p.grad.flatten() for p in method.lm.trainable().values()])


def step(method, batch_loss, rows, size):
    parts = list(batch_loss.parts(rows, size))
    assert sorted(row.number for part in parts for row in part) == [row.number for row in rows]
    return sum(batch_loss.sum(method.lm, part) for part in parts) / batch_loss.count(rows)


@pytest.mark.parametrize("norm", ["token_mean", "seq_sum_mean"])
def test_a_step_is_the_mean_over_the_rows_of_all_tasks(tmp_path, norm):
    method, training, _ = ready(tmp_path, loss_options={"loss_norm": norm})
    rows = training.rows[:5] + training.rows[41:44] + training.rows[85:89]
    sums, counts = zip(*(dull_sum(method, training, row) for row in rows), strict=True)
    dull = sum(sums) / (sum(counts) if norm == "token_mean" else len(rows))
    wanted = gradient(method, dull)
    for size in (2, 12):
        found = gradient(method, step(method, training.batch_loss, rows, size))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_beside_a_masked_loss_the_alignment_has_lmls_softmax(tmp_path):
    method, training, _ = ready(tmp_path, loss="msl")
    own, aligned = training.rows[:5], training.rows[41:44] + training.rows[85:89]
    batch_loss = training.batch_loss
    masked = TokenBatchLoss(MSL(None, method.trie, vocabulary=9, avt=2.0), method.trie)
    sums, counts = zip(*(dull_sum(method, training, row) for row in aligned), strict=True)
    dull = (masked.sum(method.lm, own) + sum(sums)) / (masked.count(own) + sum(counts))
    found = gradient(method, step(method, batch_loss, own + aligned, 4))
    torch.testing.assert_close(found, gradient(method, dull), rtol=1e-4, atol=1e-6)
    assert batch_loss.right_answers(training.rows) == training.rows[: sid_kit.SEEN]


def test_titles_never_trained_on_are_in_no_row(tmp_path):
    """With noise for them, and other codes, rows and trained weights are the same bit for bit."""
    found = []
    for seed, names in enumerate((sid_kit.titles(), noise())):
        method, training, run = ready(tmp_path / str(seed), names=names, cold_seed=seed)
        rows = [texts(method, training, row) for row in training.rows]
        replace(training, rows=training.rows[::3]).run(method.lm, run)
        found.append((rows, method.lm.learnt()))
    (rows, weights), (other_rows, other_weights) = found
    assert rows == other_rows
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_a_title_that_is_missing_is_not_aligned(tmp_path):
    names = list(sid_kit.titles())
    names[5] = " "
    _, training, run = ready(tmp_path, names=tuple(names))
    assert run.facts["rows_by_task"]["title_to_codes"] == sid_kit.SEEN - 1
    assert len(training.rows) == 3 * sid_kit.SEEN - 2


def test_a_training_with_alignment_is_kept_and_restored(tmp_path):
    """On the backbone whose vocabulary is that of its texts, with msl_ats, whose state is the next item's."""
    method, run, train = start(tmp_path, loss="msl_ats", loss_options={"eta": 0.95})
    run = replace(run, microscope=2)
    method.fit(train, sid_kit.exam(train), run)
    facts = run.facts
    assert facts["steps"] == -(-3 * sid_kit.SEEN // FAST["batch"])
    assert facts["train_tokens"] > sum(facts["train_tokens_of_tasks"].values()) > 0
    assert facts["tau_of_best_epoch"] > 0 and "stopped" not in facts["microscope"]
    sid_kit.kept_and_read(method, tmp_path / "kept", sid_kit.exam(train).queries)


def test_each_task_takes_over_its_own_state(tmp_path):
    _, training, _ = ready(tmp_path, loss="msl_ats", loss_options={"eta": 0.95})
    batch_loss = training.batch_loss
    before = batch_loss.snapshot()
    for number, part in enumerate(batch_loss.of_task.values()):
        part.tokens = 10 + number
    state = dict(batch_loss.state_dict())
    assert state["tokens"] == 10 and state["codes_to_title/tokens"] == 12 and "tau" in state
    batch_loss.restore(before)
    assert batch_loss.facts()["train_tokens"] == 0
    batch_loss.load_state_dict(state)
    assert batch_loss.state_dict() == state and batch_loss.facts()["train_tokens"] == 33


def test_a_resumed_training_equals_the_uninterrupted_one(tmp_path):
    def train(place, ends=()):
        method, training, run = ready(tmp_path / place, epochs=2, batch=8)

        def progress(step, total, **_):
            if step in ends:
                raise KeyboardInterrupt

        training = replace(training, rows=training.rows[::6])
        training.run(method.lm, replace(run, progress=progress))
        return method.lm.learnt(), run.facts["train_tokens_of_tasks"]

    whole, tokens = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("halves", ends=[4])  # the second epoch's first step
    halves, counted = train("halves")
    assert counted == tokens and min(tokens.values()) > 0
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_without_alignment_nothing_is_declared_and_nothing_else_is_trained(tmp_path):
    assert "align" not in LCRecConfig().declared()
    assert configure(LCRec, {"align": "both"}).declared()["align"] == "both"
    _, training, run = ready(tmp_path, align="none")
    assert not isinstance(training.batch_loss, SeveralTasks) and "rows_by_task" not in run.facts
    assert len(training.rows) == sid_kit.SEEN


def test_a_preference_loss_starts_from_an_aligned_model():
    config = LCRec.complete(configure(LCRec, {"align": "both"}), loss="s_dpo", decoder="beam")
    needs = LCRec.needs(config, loss="s_dpo", backbone="tiny")
    assert needs["start"].config["align"] == "both"
    with pytest.raises(ConfigError, match=r"title_softmax is over whole answers.*'none' or take"):
        LCRec.complete(config, loss="title_softmax", decoder="beam")


def test_the_forecast_counts_the_rows_of_the_alignment():
    size = Size(train_rows=100, test_rows=0, n_items=50, loss="lml", backbone="tiny")
    none, both = (configure(LCRec, {"align": align}) for align in ("none", "both"))
    more = LCRec.estimate_seconds(none, replace(size, train_rows=200))
    assert LCRec.estimate_seconds(both, size) == more > LCRec.estimate_seconds(none, size)
