"""What a generative method lets its decoder know, and when."""

import numpy as np
import pytest
import torch
from test_bigrec import N, exam, fitted, windows

from bench.errors import ConfigError
from bench.method import keep, restore
from llmrec.decode.exact import Exact
from llmrec.decode.ground import Ground
from llmrec.generative import _generative
from llmrec.generative._decoding import leaf_weights
from llmrec.lm import backbone
from llmrec.trie import Trie

SHORT = {"beams": 1, "max_new_tokens": 6}


def popular(first=3):
    """Training rows in which one item is the target far more often than the others."""
    train = windows()
    rows = np.flatnonzero(train.target_W == first)
    return train.take(np.concatenate([np.arange(len(train)), np.tile(rows, 8)]))


def grounded(folder, **options):
    return fitted(
        folder, train=popular(), epochs=1, decoder="ground", decoder_options=SHORT | options
    )


@pytest.mark.parametrize("options", [{"beams": 5}, {"beams": 9, "space": "full"}])
def test_a_decoder_that_cannot_give_the_lists_is_refused_before_training(
    tmp_path, monkeypatch, options
):
    monkeypatch.setattr(_generative.Generative, "_training", lambda *_: pytest.fail("trained"))
    with pytest.raises(ConfigError, match="beams is not defined; set beams to at least 10"):
        fitted(tmp_path, decoder_options=options)


def test_popularity_of_leaves_by_hand():
    trie = Trie.of([[5, 0], [6, 0], [5, 0], [7, 0]], 0)  # items 1 and 3 share a title
    assert leaf_weights(trie, np.array([0, 2, 1, 4, 0])).tolist() == [1, 1 / 6, 0]
    assert leaf_weights(trie, np.array([0, 1, 2, 1, 2])).tolist() == [0, 0, 0]


def test_grounding_weighs_by_popularity_in_the_training_rows(tmp_path):
    plain, _ = grounded(tmp_path / "a")
    heavy, run = grounded(tmp_path / "b", gamma=60.0)
    lists = [m.recommend(exam().queries, 5).item_QK for m in (plain, heavy)]
    assert "gamma_chosen" not in run.facts
    np.testing.assert_array_equal(lists[0][:, 0], lists[1][:, 0])  # the nearest stays first
    assert (lists[1][:, :2] == 3).any(1).all() and not (lists[0][:, :2] == 3).any(1).all()


def test_gamma_is_chosen_on_validation_kept_and_used(tmp_path, monkeypatch):
    chosen = []

    def choose(self, lm, prompts, trie, *, weight_I, target_Q):
        chosen.append((len(prompts), weight_I.argmax(), target_Q.tolist(), lm.training))
        self.weigh(weight_I, 7.0)
        return 7.0

    monkeypatch.setattr(Ground, "choose", choose)
    model, run = grounded(tmp_path / "run", gamma="valid")
    leaf = model.trie.leaf_of_item_N
    assert run.facts["gamma_chosen"] == 7.0
    assert [seen[:2] for seen in chosen] == [(N, leaf[3])] and not chosen[0][3]
    assert sorted(chosen[0][2]) == sorted(leaf[exam().target_Q].tolist())
    ranking = model.recommend(exam().queries, 5)
    assert ranking.facts["gamma"] == 7.0 and "popularity^7" in ranking.facts["decoder"]
    keep(model, tmp_path / "kept")
    again = restore(tmp_path / "kept", device="cpu").recommend(exam().queries, 5)
    np.testing.assert_array_equal(ranking.item_QK, again.item_QK)
    assert again.facts["gamma"] == 7.0 and len(chosen) == 1
    with pytest.raises(ConfigError, match="no validation rows"):
        fitted(tmp_path / "b", decoder="ground", decoder_options={"gamma": "valid"}, valid_rows=0)


def test_gamma_is_a_number_or_the_word():
    with pytest.raises(ConfigError, match="a number, at least 0 or valid"):
        Ground({"gamma": "test"})


@pytest.mark.parametrize(("decoder", "folded"), [("ground", False), ("beam", True)])
def test_adapters_stay_apart_for_a_decoder_that_reads_the_base(
    tmp_path, monkeypatch, decoder, folded
):
    options = SHORT if decoder == "ground" else {}
    model, run = fitted(
        tmp_path, loss="zero_shot", decoder=decoder, decoder_options=options, epochs=1
    )
    merged = []
    monkeypatch.setattr(backbone.Backbone, "merge", lambda self, **_: merged.append(True))
    model.recommend(exam().queries, 5)
    assert bool(merged) == folded
    assert run.facts["quant"] is None and run.facts["dtype"] == "float32"


def test_the_temperature_of_the_training_is_decoded_with(tmp_path):
    options = {"loss_options": {"eta": 0.95}, "decoder_options": {"tau": "train"}}
    model, run = fitted(tmp_path / "run", loss="msl_ats", epochs=3, **options)
    ranking = model.recommend(exam().queries, 5)
    assert ranking.facts["decode_tau"] == run.facts["tau_of_best_epoch"] != 1.0
    keep(model, tmp_path / "kept")
    again = restore(tmp_path / "kept", device="cpu").recommend(exam().queries, 5)
    assert again.facts["decode_tau"] == ranking.facts["decode_tau"]
    np.testing.assert_array_equal(again.item_QK, ranking.item_QK)
    options["loss_options"] = {"tau": 2.5}
    fixed, _ = fitted(tmp_path / "fixed", loss="msl_tau", epochs=1, **options)
    assert fixed.recommend(exam().queries, 5).facts["decode_tau"] == 2.5
    plain, _ = fitted(tmp_path / "plain", loss="zero_shot", decoder_options={"tau": "train"})
    assert plain.recommend(exam().queries, 5).facts["decode_tau"] == 1.0


def test_another_decoder_for_a_while(tmp_path):
    model, _ = fitted(tmp_path, epochs=1)
    own = model.recommend(exam().queries, 5)
    with model.decoding_by(Exact()):
        other = model.recommend(exam().queries, 5)
        with pytest.raises(ZeroDivisionError), model.decoding_by(Ground()):
            1 / 0  # noqa: B018
        assert model.recommend(exam().queries, 5).facts["decoder"] == other.facts["decoder"]
    assert other.facts["decoder"] == Exact().rule
    assert model.recommend(exam().queries, 5).facts["decoder"] == own.facts["decoder"]
    assert torch.is_grad_enabled()
