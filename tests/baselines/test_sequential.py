"""SASRec, BERT4Rec and DROS: the contract, the losses against loops, and the repairs of RecBole."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.losses.base import Trained
from bench.cell import Run
from bench.errors import ConfigError, ContractError, DataError
from bench.method import keep, restore
from bench.registry import methods
from bench.types import Catalogue, Exam, Queries, Ragged, Windows
from speed.harms import HARMS

SMALL = {"hidden_size": 8, "inner_size": 16, "n_heads": 2, "batch_size": 16, "epochs": 4}
RECBOLE: dict[str, object] = {"as_recbole": True, "ce_padding": True}
AUTHORS: dict[str, object] = {  # the network and the loss of DROS's release
    "tied": False,
    "activation": "relu",
    "norm_first": True,
    "bce_positions": "last",
}
VARIANTS = (
    ("sasrec", "ce", {}),
    ("sasrec", "bce", {}),
    ("sasrec", "ce_all", {}),
    ("sasrec", "ce", RECBOLE),
    ("bert4rec", None, {}),
    ("bert4rec", None, {"masks": "recbole"}),
    ("dros", "bce", {}),
    ("dros", "ce", {}),
    ("dros", "bce", AUTHORS),
)
N = 30


class Given:
    """A scorer whose states are the scores themselves."""

    def logits(self, state_MD):
        return state_MD

    def item_table(self):
        raise AssertionError("only scores are given")


class Killed(Exception):
    """Stands for a kill signal."""


def toy(n_rows: int = 70, seed: int = 3) -> Windows:
    rng = np.random.default_rng(seed)
    first = rng.integers(1, N - 12, n_rows)
    lengths = rng.integers(2, 12, n_rows)
    rows = [[int(a + i) for i in range(n)] for a, n in zip(first, lengths, strict=True)]
    catalogue = Catalogue(("", *(f"title {i}" for i in range(1, N + 1))), "toy")
    time = np.arange(n_rows)
    target = np.array([row[-1] for row in rows], np.int32)
    return Windows(catalogue, time, Ragged.of([row[:-1] for row in rows]), target, time)


def exam(windows: Windows) -> Exam:
    asked = Queries(windows.catalogue, windows.user_W, windows.history, windows.timestamp_W)
    return Exam(asked, windows.target_W)


def run_in(folder: Path, progress=None) -> Run:
    folder.mkdir(exist_ok=True, parents=True)
    more = {"progress": progress} if progress else {}
    return Run(seed=1, device="cpu", folder=folder, **more)


def fitted(name: str, loss: str | None, folder: Path, **config):
    method = methods.get(name)({**SMALL, **config}, loss=loss)
    method.fit(toy(), exam(toy(20, seed=4)), run_in(folder))
    return method


def batch_of(method, windows: Windows):
    """The module's batch of all rows, in evaluation mode so that dropout is off."""
    from baselines import _recbole as rb
    from baselines.training import columns

    history = windows.sequences if method.with_target else windows.history
    batch = rb.Interaction(columns(history, windows.target_W, method.width))
    method.model.eval()
    return method.model.draw(batch, None, np.random.default_rng(0))


@pytest.mark.parametrize(("name", "loss", "config"), VARIANTS)
def test_contract(name, loss, config, tmp_path):
    method = fitted(name, loss, tmp_path / "a", **config)
    asked = exam(toy(40, seed=5)).queries
    ranking = method.recommend(asked, 10)
    assert ranking.item_QK.shape == (40, 10)
    assert all(len(set(row)) == 10 and min(row) >= 1 and max(row) <= N for row in ranking.item_QK)
    assert (np.diff(ranking.score_QK, axis=1) <= 0).all()
    order = np.random.default_rng(0).permutation(40)[:17]
    some = method.recommend(asked.take(order), 10)
    assert (some.item_QK == ranking.item_QK[order]).all()
    again = fitted(name, loss, tmp_path / "b", **config).recommend(asked, 10)
    assert (again.item_QK == ranking.item_QK).all()
    keep(method, tmp_path / "kept")
    back = restore(tmp_path / "kept", device="cpu")
    assert (back.recommend(asked, 10).score_QK == ranking.score_QK).all()
    assert (back.item_vectors() == method.item_vectors()).all()
    assert (back.user_vectors(asked.history) == method.user_vectors(asked.history)).all()
    assert (back.seen == toy().seen).all() and not back.item_vectors()[0].any()


@pytest.mark.parametrize(("name", "loss", "config"), VARIANTS)
def test_a_killed_and_resumed_training_equals_an_uninterrupted_one(name, loss, config, tmp_path):
    def kill(done, total, **numbers):
        if done == 2:
            raise Killed

    whole = fitted(name, loss, tmp_path / "whole", **config)
    method = methods.get(name)({**SMALL, **config}, loss=loss)
    data = toy(), exam(toy(20, seed=4))
    with pytest.raises(Killed):
        method.fit(*data, run_in(tmp_path / "cut", kill))
    epochs: list[int] = []
    again = methods.get(name)({**SMALL, **config}, loss=loss)
    progress = lambda done, total, **numbers: epochs.append(done)  # noqa: E731
    again.fit(*data, run_in(tmp_path / "cut", progress))
    assert epochs == [3, 4]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_checkpoint_is_set_aside_and_the_training_begins_anew(tmp_path, caplog, harm):
    method = methods.get("sasrec")({**SMALL, "epochs": 2}, loss="ce")
    method.fit(toy(), exam(toy(20, seed=4)), run_in(tmp_path))
    HARMS[harm](tmp_path / "checkpoint.pt")
    epochs: list[int] = []
    run = run_in(tmp_path, progress=lambda done, total, **numbers: epochs.append(done))
    again = methods.get("sasrec")({**SMALL, "epochs": 2}, loss="ce")
    again.fit(toy(), exam(toy(20, seed=4)), run)
    assert epochs == [1, 2] and (again.item_vectors() == method.item_vectors()).all()
    assert (tmp_path / "checkpoint.pt.damaged-1").exists()
    assert len(caplog.messages) == 1 and "made again" in caplog.messages[0]


def test_a_finished_training_is_not_repeated(tmp_path):
    first = fitted("sasrec", "ce", tmp_path / "a", epochs=3)
    epochs: list[int] = []
    run = run_in(tmp_path / "a", progress=lambda done, total, **numbers: epochs.append(done))
    second = methods.get("sasrec")({**SMALL, "epochs": 3}, loss="ce")
    second.fit(toy(), exam(toy(20, seed=4)), run)
    assert not epochs and run.facts["epochs"] == 3
    assert (second.item_vectors() == first.item_vectors()).all()


def test_training_learns_the_successor(tmp_path):
    method = fitted("sasrec", "ce", tmp_path, epochs=60, dropout=0.1, learning_rate=1e-2)
    held_out = exam(toy(60, seed=9))
    known = method.seen[held_out.target_Q]
    first = method.recommend(held_out.queries, 1).item_QK[:, 0]
    assert (first == held_out.target_Q)[known].mean() > 0.6


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_dros_without_its_term_is_sasrec(loss, tmp_path):
    plain = fitted("sasrec", loss, tmp_path / "a")
    robust = fitted("dros", loss, tmp_path / "b", dro_alpha=0.0)
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, robust.model.state_dict()[key]), key


def test_robust_term_equals_its_literal_form(tmp_path):
    method = fitted("dros", "ce", tmp_path, dro_alpha=0.3, dro_beta=2.0)
    target = torch.tensor([3, 7])
    score = torch.randn(2, N, generator=torch.Generator().manual_seed(0))
    count = toy().target_count[1:] + 1
    total = 0.0
    for row in range(2):
        terms = []
        for item in range(1, N + 1):
            propensity = (count[item - 1] / count.sum()) ** 0.05
            error = score[row, item - 1].item() - (item == target[row].item())
            terms.append(math.exp(propensity * error**2 / 2.0))
        total += math.log(sum(terms)) / 2
    term = method.model.robust_term
    found = term(Trained(score, target, Given()))
    assert found.item() == pytest.approx(total, rel=1e-6)
    far = term(Trained(score * 100, target, Given()))  # the literal form overflows here
    assert torch.isfinite(far)


def test_ce_leaves_padding_out_of_the_sum(tmp_path):
    method = fitted("sasrec", "ce", tmp_path)
    batch = batch_of(method, toy(5))
    table = method.model.item_embedding.weight.double().detach()
    user = method.model.encode(batch["item_id_list"], batch["item_length"]).double().detach()
    expected = 0.0
    for row in range(5):
        scores = [float(user[row] @ table[item]) for item in range(1, N + 1)]
        own = scores[int(batch["item_id"][row]) - 1]
        expected += (math.log(sum(map(math.exp, scores))) - own) / 5
    assert method.model.calculate_loss(batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["sasrec", "dros"])
def test_the_fast_encoder_is_recboles(name, tmp_path):
    method = fitted(name, "ce", tmp_path)
    batch = batch_of(method, toy(9))
    ids, lengths = batch["item_id_list"], batch["item_length"]
    ours, theirs = method.model.encode(ids, lengths), method.model.forward(ids, lengths)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    last = method.model.gather_indexes(method.model.states(ids), lengths - 1)
    torch.testing.assert_close(last, theirs, rtol=1e-5, atol=1e-6)


def test_recboles_ce_counts_the_padding_row(tmp_path):
    method = fitted("sasrec", "ce", tmp_path, **RECBOLE)
    batch = batch_of(method, toy(5))
    user = method.model.forward(batch["item_id_list"], batch["item_length"])
    score = user @ method.model.item_embedding.weight.T
    expected = torch.nn.functional.cross_entropy(score, batch["item_id"])
    torch.testing.assert_close(method.model.calculate_loss(batch), expected)
    plain = fitted("sasrec", "bce", tmp_path / "b", **RECBOLE)
    assert plain.model.item_loss.name == "bce"


def test_norms_in_front_are_those_of_the_first_sasrec(tmp_path):
    """A loop over rows and positions, one layer, without dropout."""
    method = fitted("dros", "bce", tmp_path, **{**AUTHORS, "n_layers": 1, "n_heads": 1})
    batch = batch_of(method, toy(3))
    model, ids = method.model, batch["item_id_list"]
    layer = model.trm_encoder.layer[0]
    attention, forward = layer.multi_head_attention, layer.feed_forward
    found = model.encode(ids, batch["item_length"])
    for row, length in enumerate(batch["item_length"].tolist()):
        seq = model.item_embedding(ids[row, :length]) + model.position_embedding.weight[:length]
        asked = attention.LayerNorm(seq[-1])
        score = attention.key(seq) @ attention.query(asked) / math.sqrt(model.hidden_size)
        heard = attention.dense(score.softmax(0) @ attention.value(seq))
        inner = forward.LayerNorm(asked + heard)
        outer = inner + forward.dense_2(torch.relu(forward.dense_1(inner)))
        torch.testing.assert_close(found[row], model.LayerNorm(outer), rtol=1e-5, atol=1e-6)
    assert model.logits(found).shape == (3, N) and hasattr(model, "head")


def test_the_fast_masked_encoder_is_recboles(tmp_path):
    method = fitted("bert4rec", None, tmp_path)
    batch = batch_of(method, toy(9))
    row, place = (batch["Mask_item_id_list"] == N + 1).nonzero(as_tuple=True)
    model = method.model
    theirs = model.forward(batch["Mask_item_id_list"])[row, place]
    ours = model.read(batch["Mask_item_id_list"], place, row)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_bert4rec_keeps_the_first_item_of_a_full_history(tmp_path):
    method = fitted("bert4rec", None, tmp_path)
    tail = list(range(2, 11))
    one, other = method.user_vectors(Ragged.of([[1, *tail], [20, *tail]]))
    assert np.abs(one - other).max() > 1e-4


def test_recbole_as_is_drops_the_first_item_even_where_there_is_room(tmp_path):
    method = fitted("bert4rec", None, tmp_path, masks="recbole")
    asked = Ragged.of([[1, 5], [20, 5]])
    catalogue, time = toy().catalogue, np.zeros(2, np.int64)
    ranking = method.recommend(Queries(catalogue, time, asked, time), 10)
    assert (ranking.item_QK[0] == ranking.item_QK[1]).all()


def test_bert4rec_masks_targets_and_first_positions(tmp_path):
    method = fitted("bert4rec", None, tmp_path, ft_ratio=1.0)
    windows = toy(12)
    batch = batch_of(method, windows)
    row, place = (batch["Mask_item_id_list"] == N + 1).nonzero(as_tuple=True)
    assert row.tolist() == list(range(12))  # the last one of each row, which is the target
    assert batch["item_id_list"][row, place].tolist() == windows.target_W.tolist()
    method.model.last_ratio, method.model.mask_ratio = 0.0, 0.5
    batch = batch_of(method, toy(200))
    masked = batch["Mask_item_id_list"] == N + 1
    assert masked[:, 0].any() and not masked[batch["item_id_list"] == 0].any()
    share = masked.sum() / (batch["item_id_list"] > 0).sum()
    assert 0.45 < share < 0.55
    logits = method.model.logits(
        method.model.read(batch["Mask_item_id_list"], *masked.nonzero().T.flip(0))
    )
    expected = torch.nn.functional.cross_entropy(logits, batch["item_id_list"][masked] - 1)
    torch.testing.assert_close(method.model.calculate_loss(batch), expected)


def test_long_histories_keep_their_recent_items_and_empty_ones_are_read(tmp_path):
    method = fitted("sasrec", "ce", tmp_path, max_length=3)
    asked = Ragged.of([[9, 8, 1, 2, 3], [1, 2, 3], []])
    long, short, empty = method.user_vectors(asked)
    assert (long == short).all() and np.isfinite(empty).all()


def test_a_short_catalogue_gives_a_short_list(tmp_path):
    ranking = fitted("sasrec", "ce", tmp_path).recommend(exam(toy(3)).queries, N + 5)
    assert (ranking.item_QK[:, :N] > 0).all() and not ranking.item_QK[:, N:].any()


def test_rows_without_history_are_refused_when_there_are_no_others(tmp_path):
    windows = toy(5)
    bare = Windows(
        windows.catalogue,
        windows.user_W,
        Ragged.of([[]] * 5),
        windows.target_W,
        windows.timestamp_W,
    )
    with pytest.raises(DataError, match="none of the 5"):
        methods.get("sasrec")(SMALL).fit(bare, exam(toy(5)), run_in(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    method = methods.get("sasrec")({**SMALL, "learning_rate": 1e30}, loss="ce")
    with pytest.raises(ContractError, match="loss is"):
        method.fit(toy(), exam(toy(5)), run_in(tmp_path))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("sasrec", {"n_heads": 3}, "multiple of n_heads"),
        ("sasrec", {"dropout": 1.0}, "dropout"),
        ("sasrec", {"batch_size": 0}, "batch_size is 0"),
        ("dros", {"dro_alpha": -0.1}, "dro_alpha"),
        ("dros", {"dro_beta": 0.0}, "dro_beta"),
        ("dros", {"tied": False}, "set bce_positions to 'last'"),
        ("bert4rec", {"mask_ratio": 0.05}, "less than one"),
        ("bert4rec", {"ft_ratio": 1.5}, "ft_ratio"),
    ],
)
def test_bad_values_are_refused(name, config, message):
    with pytest.raises(ConfigError, match=message):
        methods.get(name)(config)
