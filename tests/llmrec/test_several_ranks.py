"""Two ranks over gloo train and decode as one process at the same batch.

Seventeen rows in batches of eight end with a batch of one row, so that the second rank has none in it.
What remains between the two sides is the rounding of sums that are added up in another order.
"""

import contextlib
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import test_s_dpo_training as preferring
import torch
from rank_kit import on_one, on_two_ranks
from test_tuning import RECIPE, Setting, run_in

from bench import ranks
from bench.cell import K
from bench.types import Queries
from llmrec.decode.base import Decoded
from llmrec.decode.beam import Beam
from llmrec.decode.exact import Exact
from llmrec.decode.sharing import decode_shared, merged
from llmrec.dllm2rec._speaking import beamed, written
from llmrec.lm import backbone
from llmrec.losses.bear import BEAR
from llmrec.losses.lml import LML
from llmrec.losses.msl_ats import MSLATS
from llmrec.training.loop import tune
from llmrec.training.trainer import Tuner

ROWS = 17
GRADIENTS, WEIGHTS, LOSSES = 1e-5, 1e-5, 1e-5  # largest differences in float32


def flat(values):
    return torch.cat([value.detach().flatten() for value in values]).clone().numpy()


def watched(fit):
    """Gradients of every optimizer step of a fit, and the numbers of the rows this rank saw in it."""
    step, gradients, rows = Tuner.training_step, [], []

    def seeing(tuner, model, inputs, *rest):
        total = step(tuner, model, inputs, *rest)
        lm = tuner.step_module.lm
        gradients.append(flat(p.grad for p in lm.trainable().values()))
        rows.append(list(ranks.mine(inputs["row"])))
        return total

    with mock.patch.object(Tuner, "training_step", seeing):
        fit()
    return gradients, rows


def token_loss(folder, loss):
    setting, run = Setting(loss), run_in(folder / loss.__name__)
    rows = setting.rows[:ROWS]
    seen = watched(lambda: tune(setting.lm, rows, setting.batch_loss(), RECIPE, run))
    return found(seen, setting.lm, run.facts)


def preference(folder):
    lm, facts = preferring.adapters(), {}
    rows = preferring.windows(ROWS)
    seen = watched(
        lambda: facts.update(preferring.train(folder / "s_dpo", lm, rows=rows, resample="epoch")[1])
    )
    return found(seen, lm, facts)


def found(seen, lm, facts):
    # the rewards of the first step are 0 but for rounding, which then decides their sign
    by_chance = {"train_tokens_per_second", "reward_accuracy_by_epoch"}
    return {
        "gradients": seen[0],
        "rows": seen[1],
        "weights": flat(lm.trainable().values()),
        "facts": {name: value for name, value in facts.items() if name not in by_chance},
    }


def decoded():
    setting = Setting()
    prompts = [row.prompt for row in setting.rows[:ROWS]]
    return {
        decoder.name: decode_shared(decoder, setting.lm, prompts, setting.trie, K, None)
        for decoder in (Beam({"beams": K, "audit": 2}), Exact({}))
    }


def spoken():
    """What a teacher says to histories: a free text each, and a constrained list each."""
    method = preferring.method_for(backbone.load("tiny"))
    windows = preferring.windows(9)
    queries = Queries(windows.catalogue, windows.user_W, windows.history, windows.timestamp_W)
    return [*written(method, queries, beams=1, max_new_tokens=4), *beamed(method, queries, 5)]


class Stop(Exception):
    """Ends a training in the middle."""


def resumed(folder):
    """Weights of a training with dropout, uninterrupted and resumed from its first epoch."""

    def fit(at, stop=None):
        def progress(done, total, **_):
            if done == stop:
                raise Stop

        setting = Setting(MSLATS)
        for layer in setting.lm.causal.model.layers:
            layer.self_attn.attention_dropout = 0.2
        recipe, rows = replace(RECIPE, epochs=2), setting.rows[:ROWS]
        tune(setting.lm, rows, setting.batch_loss(), recipe, run_in(folder / at, progress))
        return flat(setting.lm.trainable().values())

    with contextlib.suppress(Stop):
        fit("halves", stop=4)
    return fit("whole"), fit("halves")


def everything(folder):
    return {
        "lml": token_loss(folder, LML),
        "msl_ats": token_loss(folder, MSLATS),
        "bear": token_loss(folder, BEAR),
        "s_dpo": preference(folder),
        "lists": decoded(),
        "spoken": spoken(),
        "resumed": resumed(folder),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    one = on_one(everything, tmp_path_factory.mktemp("one"))
    return one, on_two_ranks(everything, tmp_path_factory.mktemp("two"))


TRAININGS = ("lml", "msl_ats", "bear", "s_dpo")


@pytest.mark.parametrize("name", TRAININGS)
def test_two_ranks_train_as_one_process(both, name):
    one, (first, second) = both[0][name], [side[name] for side in both[1]]
    assert len(one["gradients"]) == len(first["gradients"]) == 9
    # each step starts from weights that differ by the rounding of all steps before it
    for whole, shared in zip(one["gradients"], first["gradients"], strict=True):
        np.testing.assert_allclose(shared, whole, rtol=0, atol=GRADIENTS)
    np.testing.assert_allclose(first["weights"], one["weights"], rtol=0, atol=WEIGHTS)
    assert np.array_equal(first["weights"], second["weights"]), "the ranks stay the same to the bit"
    losses = first["facts"]["loss_by_epoch"]
    assert losses == pytest.approx(one["facts"]["loss_by_epoch"], abs=LOSSES)
    # a rank computes the opening of its prompts once a micro-batch, as one process does
    assert first["facts"].pop("train_tokens") >= one["facts"].pop("train_tokens") > 0
    assert first["facts"].keys() == one["facts"].keys()
    for fact, value in one["facts"].items():
        near = value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-5)
        assert first["facts"][fact] == near, fact


@pytest.mark.parametrize("name", TRAININGS)
def test_every_row_is_seen_once_a_pass(both, name):
    one, (first, second) = both[0][name]["rows"], [side[name]["rows"] for side in both[1]]
    assert [(len(a), len(b)) for a, b in zip(first, second, strict=True)] == [
        (4, 4),
        (4, 4),
        (1, 0),
    ] * 3
    for whole, *shares in zip(one, first, second, strict=True):
        assert sorted(whole) == sorted(row for share in shares for row in share)
    for epoch in range(3):
        steps = slice(3 * epoch, 3 * epoch + 3)
        rows = [row for share in (*first[steps], *second[steps]) for row in share]
        assert sorted(rows) == list(range(ROWS))


def test_lists_of_two_ranks_are_those_of_one_process(both):
    for name, one in both[0]["lists"].items():
        for shared in (side["lists"][name] for side in both[1]):
            assert np.array_equal(shared.leaf_QK, one.leaf_QK)
            np.testing.assert_allclose(shared.score_QK, one.score_QK, rtol=1e-5)
            assert np.array_equal(shared.certified_Q, one.certified_Q)
            assert shared.facts["certified_share"] == pytest.approx(one.facts["certified_share"])


def test_a_teacher_says_the_same_on_two_ranks(both):
    one, (first, second) = both[0]["spoken"], [side["spoken"] for side in both[1]]
    assert first == second
    assert sum(line["tokens"] for line in one) > 0
    for told, shared in zip(one, first, strict=True):
        near = {
            key: pytest.approx(value, rel=1e-5) for key, value in told.items() if key == "scores"
        }
        assert shared == {**told, **near}


def test_a_resumed_training_of_two_ranks_equals_the_uninterrupted_one(both):
    for whole, halves in (side["resumed"] for side in both[1]):
        assert np.array_equal(whole, halves)
    assert not np.array_equal(both[0]["resumed"][0], both[1][0]["resumed"][0]), "dropout differs"


def test_facts_of_shared_lists_are_sums_maxima_or_means():
    def part(n, **facts):
        return Decoded(np.zeros((n, 2)), np.zeros((n, 2)), None, np.zeros(n, bool), facts)

    one = part(3, beams=4, repeated_beams=1, decode_steps=5, tree_tokens_per_user=10.0, rule="full")
    two = part(2, beams=4, repeated_beams=1, decode_steps=7, tree_tokens_per_user=20.0, rule="full")
    whole = merged([one, two])
    assert len(whole) == 5 and whole.certified_Q is None
    assert whole.facts == {
        "beams": 4,
        "repeated_beams": 2,
        "decode_steps": 7,
        "tree_tokens_per_user": 14.0,
        "rule": "full",
    }
    assert merged([part(1, beams=4), part(0, beams=4, repeated_beams=0)]).facts == {"beams": 4}
