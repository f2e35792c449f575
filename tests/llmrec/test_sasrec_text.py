"""SASRec over titles on the toy data: what it must not read, what it must keep, and its blend with ids."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.training import columns
from bench.cell import Run
from bench.conformance import toy_data
from bench.data.load import load_dataset
from bench.errors import ConfigError, DataError
from bench.evaluation.metrics import evaluate
from bench.method import configure, keep
from bench.registry import methods
from bench.types import Catalogue, Ragged
from llmrec.enhanced._text_model import Adapter
from llmrec.enhanced.blend import WEIGHTS

DATA = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
TOY = toy_data()
COLD = 40  # the toy data trains on all items but the last
TINY = {"hidden_size": 16, "inner_size": 32, "epochs": 1, "batch_size": 32}


class Titles:
    """Stands for the stage: vectors as they are given."""

    def __init__(self, vector_ND):
        self.vectors_ND = vector_ND


class Given(Run):
    """A run whose title vectors are given instead of kept in a folder."""

    def load(self, name):
        return self.inputs[name] if name == "titles" else super().load(name)


def vectors(n_items=40, width=24, seed=0):
    vector_ND = np.random.default_rng(seed).normal(size=(n_items + 1, width)).astype(np.float32)
    vector_ND[0] = 0
    vector_ND[9] = vector_ND[4]  # as their titles are
    return vector_ND


def run_of(folder, vector_ND):
    folder.mkdir(parents=True, exist_ok=True)
    return Given(seed=3, device="cpu", folder=folder, inputs={"titles": Titles(vector_ND)})


def fitted(folder, vector_ND, train=TOY.train, valid=TOY.valid, **config):
    method = methods.get("sasrec_text")({**TINY, **config})
    run = run_of(folder, vector_ND)
    method.fit(train, valid, run)
    return method, run.facts


def weights_of(method):
    return {k: v for k, v in method.model.state_dict().items() if k not in ("folded_ND", "twin_N")}


@pytest.mark.parametrize("config", [{}, {"adapter": "moe"}, {"ids": "add"}], ids=str)
def test_titles_of_items_never_trained_on_change_no_weight(tmp_path, config):
    noisy = vectors()
    noisy[COLD] = 100 * vectors(seed=1)[COLD]
    one, _ = fitted(tmp_path / "one", vectors(), **config)
    two, _ = fitted(tmp_path / "two", noisy, **config)
    assert not TOY.train.seen[COLD]
    for name, weight in weights_of(one).items():
        assert torch.equal(weight, weights_of(two)[name]), name
    same = torch.arange(41) != COLD
    assert torch.equal(one.model.folded_ND[same], two.model.folded_ND[same])
    assert not torch.equal(one.model.folded_ND[COLD], two.model.folded_ND[COLD])


def test_with_negatives_all_they_do(tmp_path):
    noisy = vectors()
    noisy[COLD] = vectors(seed=1)[COLD]
    one, facts = fitted(tmp_path / "one", vectors(), negatives="all")
    two, _ = fitted(tmp_path / "two", noisy, negatives="all")
    changed = [n for n, w in weights_of(one).items() if not torch.equal(w, weights_of(two)[n])]
    assert changed
    assert facts["variant"] == "transductive"


def test_equal_titles_have_one_score_and_every_item_one(tmp_path):
    method, facts = fitted(tmp_path, vectors())
    item_BH = torch.from_numpy(TOY.queries.history.padded(10, align="left").astype(np.int64))
    with torch.inference_mode():
        score_BN = method.model.scores(item_BH, torch.full((len(item_BH),), 2))
    assert torch.equal(score_BN[:, 4], score_BN[:, 9])
    assert score_BN[:, 1:].isfinite().all()
    assert score_BN[:, COLD].unique().numel() > 1
    assert score_BN[:, 1:].abs().max() <= 1 / 0.07 + 1e-4
    known = {"norm_seen", "norm_cold", "cosine_titles", "cosine_whitened", "cosine_items"}
    assert known <= set(facts)
    assert 0 <= facts["valid_cold_share"] <= 1
    assert facts["valid_cold_targets"] == np.mean(TOY.valid.target_Q == COLD)


def test_an_id_is_added_to_seen_items_only(tmp_path):
    method = methods.get("sasrec_text")({**TINY, "ids": "add"})
    method._title_NR = vectors()
    nothing = Ragged.of([(1,)])
    method.build(columns(nothing, np.array([2]), 10), 40, tmp_path, "cpu")
    method.prepare(method.model, TOY.train, run_of(tmp_path, vectors()))
    model = method.model.eval()
    with torch.inference_mode():
        by_title_ND = model.adapter(model.title_NR)
        table_ND = model.input_table()
    assert torch.equal(table_ND[COLD], by_title_ND[COLD])
    expected = by_title_ND[1:COLD] + model.item_embedding.weight[1:COLD]
    torch.testing.assert_close(table_ND[1:COLD], expected)


def test_a_mixture_of_one_expert_is_one_matrix():
    one = Adapter(6, 4, experts=None, dropout=0.2).eval()
    mixture = Adapter(6, 4, experts=1, dropout=0.2).eval()
    mixture.map.data = one.map.data
    title_NR = torch.randn(9, 6)
    torch.testing.assert_close(mixture(title_NR), one(title_NR))


def test_a_mixture_is_the_sum_that_it_says():
    mixture = Adapter(6, 4, experts=3, dropout=0.2).eval()
    for part in (mixture.bias_GR, mixture.gate_RG):
        part.data.normal_()
    title_NR = torch.randn(9, 6)
    expected = torch.zeros(9, 4)
    for expert in range(3):
        share_N1 = (title_NR @ mixture.gate_RG).softmax(1)[:, expert, None]
        map_RD = mixture.map[:, 4 * expert : 4 * expert + 4]
        expected += share_N1 * ((title_NR - mixture.bias_GR[expert]) @ map_RD)
    torch.testing.assert_close(mixture(title_NR), expected)


def test_other_numbers_for_the_items_give_the_same_lists(tmp_path):
    """The item vectors of a fitted model, its items renumbered together with their titles."""
    method, _ = fitted(tmp_path, vectors())
    old_N = np.r_[0, np.random.default_rng(2).permutation(40) + 1]  # by new id, the old one
    new_N = np.argsort(old_N)
    asked = TOY.queries.history
    before = method.recommend(TOY.queries, 5).item_QK
    method.model.folded_ND.copy_(method.model.folded_ND[torch.from_numpy(old_N)].clone())
    twin_N = new_N[method.model.twin_N.numpy()[old_N]]
    method.model.twin_N.copy_(torch.from_numpy(twin_N))
    method.seen = method.seen[old_N]
    renumbered = Ragged(new_N[asked.values].astype(np.int32), asked.offsets)
    after = method.recommend(replace(TOY.queries, history=renumbered), 5).item_QK
    class_N = TOY.train.catalogue.title_class
    np.testing.assert_array_equal(class_N[old_N[after]], class_N[before])


def identity_lists(split, vector_ND, folder):
    """Lists of the module with an identity for a map and the last item's vector for a state."""
    width = vector_ND.shape[1]
    method = methods.get("sasrec_text")(
        {"hidden_size": width, "inner_size": 8, "n_heads": 1, "whiten": "none"}
    )
    method._title_NR, method.seen = vector_ND, split.train.seen
    nothing = columns(Ragged.of([]), np.zeros(0, np.int64), 10)
    method.build(nothing, split.train.n_items, folder, "cpu")
    method.prepare(method.model, split.train, run_of(folder, vector_ND))
    model = method.model.eval()
    model.adapter.map.data = torch.eye(width)
    last_Q = torch.from_numpy(split.test.queries.last_Q.astype(np.int64))
    with torch.no_grad():
        score_QN = model.logits(model.compared(model.input_table()[last_Q]))
    history = split.test.queries.history
    row = np.repeat(np.arange(len(history)), history.lengths)
    score_QN[row, history.values.astype(np.int64) - 1] = -torch.inf
    return score_QN.topk(20).indices.numpy() + 1


def test_without_anything_learnt_it_is_the_nearest_title_floor(tmp_path):
    """Encoded by words here; by MiniLM it is .0775/.1257 on Office, see docs/floors.md."""
    if not (DATA / "office").is_dir():
        pytest.skip(f"no office under {DATA}; set BENCH_DATA")
    split = load_dataset("office", DATA).split
    stage = methods.get("title_vectors")({"text_encoder": "hash"})
    stage.fit(split.train, split.valid, Run(seed=0, device="cpu", folder=tmp_path))
    floor = methods.get("minilm_last")({"text_encoder": "hash"})
    floor.state = {"vectors_ND": stage.vectors_ND}

    def scored(ranking):
        return evaluate(ranking, split.test, train_count=split.train.target_count)

    found = scored(
        replace(
            floor.recommend(split.test.queries, 20),
            item_QK=identity_lists(split, stage.vectors_ND, tmp_path),
            score_QK=None,
        )
    )
    expected = scored(floor.recommend(split.test.queries, 20))
    assert found["ndcg@10"] == pytest.approx(expected["ndcg@10"], abs=5e-4)
    assert found["ndcg@10"] > 0.05


def test_a_language_model_may_read_the_titles(tmp_path):
    config = configure(
        methods.get("sasrec_text"), {"text_encoder": "backbone", "text_backbone": "tiny"}
    )
    need = methods.get("sasrec_text").needs(config, loss=None, backbone=None)["titles"]
    stage = methods.get(need.method)(need.config, backbone=need.backbone)
    stage.fit(TOY.train, TOY.valid, Run(seed=3, device="cpu", folder=tmp_path))
    assert len(stage.vectors_ND) == 41
    np.testing.assert_allclose(np.linalg.norm(stage.vectors_ND[1:], axis=1), 1, atol=1e-5)
    scratch = config.replace(text_backbone="scratch")
    with pytest.raises(ConfigError, match="text_backbone is 'scratch', whose weights are random"):
        methods.get("sasrec_text").needs(scratch, loss=None, backbone=None)


@pytest.mark.parametrize("bad", [{"tau": 0.0}, {"whiten": "zca", "whiten_width": 3}], ids=str)
def test_bad_options(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        configure(methods.get("sasrec_text"), bad)


def test_bad_titles(tmp_path):
    bad = vectors()
    bad[7] = np.inf
    with pytest.raises(DataError, match=r"'The \w+ of \w+' \(item 7\) is not finite"):
        fitted(tmp_path, bad)
    with pytest.raises(ConfigError, match="width is 25, but"):
        fitted(tmp_path, vectors(), whiten_width=25)
    catalogue = Catalogue(("", *["one"] * 40))
    train = replace(TOY.train, catalogue=catalogue)
    with pytest.raises(DataError, match="two distinct titles, the fit set has 1"):
        fitted(tmp_path, vectors(), train=train)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """SASRec over titles and over ids, kept, and the blend of them."""
    place = tmp_path_factory.mktemp("blend")
    text, _ = fitted(place / "text run", vectors(), epochs=3)
    ids = methods.get("sasrec")({**TINY, "epochs": 3}, loss="ce_all")
    ids.fit(TOY.train, TOY.valid, Run(seed=3, device="cpu", folder=place / "ids run"))
    blend = methods.get("blend")()
    for name, model in (("text", text), ("ids", ids)):
        keep(model, place / name)
    inputs = {name: place / name for name in ("text", "ids")}
    run = Run(seed=3, device="cpu", folder=place, inputs=inputs)
    blend.fit(TOY.train, TOY.valid, run)
    return text, ids, blend, run.facts


def test_at_its_ends_the_blend_is_one_of_its_models(parts):
    text, ids, blend, _ = parts
    class_N = TOY.train.catalogue.title_class
    blend.weight = 0.0
    found = blend.recommend(TOY.queries, 5).item_QK
    expected = text.recommend(TOY.queries, 5).item_QK
    np.testing.assert_array_equal(class_N[found], class_N[expected])
    blend.weight = 1.0
    found = blend.recommend(TOY.queries, 40).item_QK
    assert not (found == COLD).any()
    assert (found[:, -1] == 0).all()
    whole = ids.recommend(TOY.queries, 40).item_QK
    expected = [[item for item in row if item != COLD] for row in whole.tolist()]
    np.testing.assert_array_equal(found[:, :-1], expected)


def test_the_weight_is_the_best_on_validation_and_the_smallest_of_equals(parts):
    curve = parts[3]["valid_ndcg@5_by_weight"]
    assert [float(weight) for weight in curve] == list(WEIGHTS)
    best = [float(weight) for weight, value in curve.items() if value == max(curve.values())]
    assert parts[3]["weight"] == best[0]
