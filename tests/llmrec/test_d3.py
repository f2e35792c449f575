"""The product of a language model and an ID model, against brute force over the whole catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from decode_kit import model, random_prompts, random_trie, top
from test_bigrec import N, exam, fitted, windows
from test_bigrec import method as bigrec

from bench.cell import Run
from bench.errors import ArtefactError, ConfigError
from bench.method import configure, keep, restore
from bench.registry import methods
from llmrec.decode.d3 import D3
from llmrec.decode.exact import Exact
from llmrec.decode.expert import FLOOR, Numbered, leaf_mass, log_mass
from llmrec.decode.rule import Rule
from llmrec.decode.scoring import score_all
from llmrec.generative.bigrec import BIGRec
from llmrec.trie import Trie

K, QUERIES = 8, np.array([3, 0, 7, 5])


@pytest.fixture(scope="module")
def lm():
    return model()


def setting(lm, seed=0):
    """Numbered prompts, a trie with repeated titles, and scores of the items for eight queries."""
    trie = random_trie(lm, seed, n_items=70)
    assert trie.n_leaves < trie.n_items
    score_QN = 2 * np.random.default_rng(seed).normal(size=(8, trie.n_items))
    return Numbered.of(random_prompts(len(QUERIES), seed), QUERIES), trie, score_QN


def by_class(score_QN, trie):
    """Logarithm of the softmax mass of all items with one title, one by one."""
    log_QL = np.empty((len(QUERIES), trie.n_leaves))
    for row, query in enumerate(QUERIES):
        mass_N = np.exp(score_QN[query]) / np.exp(score_QN[query]).sum()
        for leaf in range(trie.n_leaves):
            items = trie.leaf_items[leaf]
            log_QL[row, leaf] = np.log(max(sum(mass_N[item - 1] for item in items), FLOOR))
    return log_QL


def decoded(lm, prompts, trie, score_QN, k=K, **options):
    decoder = D3(options)
    decoder.consult(lambda query_B: score_QN[query_B])
    return decoder(lm, prompts, trie, k)


@pytest.mark.parametrize("g", [0.9, 0.5, 0.0])
def test_exact_search_is_the_product_of_experts(lm, g):
    prompts, trie, score_QN = setting(lm)
    wanted_QL = g * score_all(lm, prompts, trie) + (1 - g) * by_class(score_QN, trie)
    found = decoded(lm, prompts, trie, score_QN, g=g, batch=3)
    np.testing.assert_array_equal(found.leaf_QK, top(wanted_QL, K))
    np.testing.assert_allclose(found.score_QK, -np.sort(-wanted_QL, 1)[:, :K], atol=1e-4)
    assert found.certified_Q.all() and found.facts["expert"] == "sasrec"
    wide = decoded(
        lm, prompts, trie, score_QN, trie.n_leaves, g=g, search="beam", beams=trie.n_leaves
    )
    np.testing.assert_array_equal(wide.leaf_QK[:, :K], found.leaf_QK)


def test_with_all_weight_on_the_language_model_nothing_else_is_asked(lm):
    prompts, trie, _ = setting(lm)
    found, plain = D3()(lm, prompts, trie, K), Exact()(lm, prompts, trie, K)
    np.testing.assert_array_equal(found.leaf_QK, plain.leaf_QK)
    np.testing.assert_array_equal(found.score_QK, plain.score_QK)
    with pytest.raises(ConfigError, match=r"g is 0.5, but .* no scores of 'sasrec'"):
        D3({"g": 0.5})(lm, prompts, trie, K)


def test_over_all_tokens_as_in_the_released_code(lm):
    prompts, trie, score_QN = setting(lm, 1)
    options = {"g": 0.7, "space": "full", "search": "beam", "beams": trie.n_leaves}
    found = decoded(lm, prompts, trie, score_QN, **options)
    full_QL = score_all(lm, prompts, trie, Rule(space="full"))
    np.testing.assert_array_equal(
        found.leaf_QK, top(0.7 * full_QL + 0.3 * by_class(score_QN, trie), K)
    )
    with pytest.raises(ConfigError, match="space is 'full' and search 'exact'"):
        D3({"space": "full"})


def test_masses_by_hand():
    # items 1 and 3 share a title; 4 has no mass at all
    trie = Trie.of([[5, 0], [6, 7, 0], [5, 0], [6, 8, 0]], 0)
    mass_1L = leaf_mass(np.log([[1.0, 2.0, 5.0, 1e-300]]), trie)
    assert mass_1L[0].tolist() == pytest.approx([6 / 8, 2 / 8, FLOOR])
    log_1M = log_mass(mass_1L, trie)
    five, six = (int(node) for node in trie.children(0)[1])
    assert np.exp(log_1M[0, [0, five, six, -1]]).tolist() == pytest.approx([1, 6 / 8, 2 / 8, 1])


def test_a_mass_far_below_the_rounding_of_the_whole_is_kept():
    trie = Trie.of([[5, 0], [6, 7, 0], [6, 8, 0]], 0)
    log_1M = log_mass(leaf_mass(np.array([[0.0, -39.0, -40.0]]), trie), trie)
    _, six = (int(node) for node in trie.children(0)[1])
    seven = int(trie.children(six)[1][0])
    assert log_1M[0, seven] - log_1M[0, six] == pytest.approx(-np.log1p(np.exp(-1)))


@pytest.fixture(scope="module")
def sasrec(tmp_path_factory):
    """A small SASRec on BIGRec's training rows: itself, and where it is kept."""
    folder = tmp_path_factory.mktemp("sasrec")
    kind = methods.get("sasrec")
    options = configure(kind, {"epochs": 2, "hidden_size": 16, "inner_size": 32})
    made = kind(options, loss="ce")
    made.fit(windows(), exam(), Run(seed=1, device="cpu", folder=folder))
    keep(made, folder / "kept")
    return made, folder / "kept"


def test_a_cell_ranks_as_its_sasrec_where_that_has_all_the_weight(tmp_path, sasrec):
    recommender, kept = sasrec
    model = bigrec(decoder="d3", epochs=1, decoder_options={"g": 0.0})
    run = Run(seed=1, device="cpu", folder=tmp_path, inputs={"expert": kept})
    model.fit(windows(), exam(), run)
    wanted = recommender.recommend(exam().queries, 5).item_QK  # no two titles are equal
    ranking = model.recommend(exam().queries, 5)
    np.testing.assert_array_equal(ranking.item_QK, wanted)
    assert ranking.facts["expert"] == "sasrec" and ranking.facts["g"] == 0.0
    assert "1 sasrec" in ranking.facts["decoder"]
    keep(model, tmp_path / "whole")
    few = exam().queries.take(np.array([4, 2]))
    again = restore(tmp_path / "whole", device="cpu").recommend(few, 5)
    np.testing.assert_array_equal(again.item_QK, wanted[[4, 2]])


def test_popularity_is_the_control(tmp_path):
    train = windows().take(np.concatenate([np.arange(60), np.tile([2, 2, 7], 9)]))
    options = {"g": 0.0, "expert": "popularity"}
    model, _ = fitted(tmp_path, train=train, decoder="d3", epochs=1, decoder_options=options)
    ranking = model.recommend(exam().queries, 3)
    often = np.argsort(-train.target_count, kind="stable")[:2]
    assert (ranking.item_QK[:, :2] == often).all() and len(ranking.item_QK) == N
    keep(model, tmp_path / "kept")
    again = restore(tmp_path / "kept", device="cpu").recommend(exam().queries, 3)
    np.testing.assert_array_equal(again.item_QK, ranking.item_QK)


def test_it_needs_the_recommender_that_llara_needs_and_only_where_it_asks():
    def needs(kind, decoder, options, **config):
        given = configure(kind, {"decoder_options": options, **config})
        return kind.needs(
            kind.complete(given, loss="lml", decoder=decoder), loss="lml", backbone="tiny"
        )

    options = {"g": 0.5, "sasrec": {"epochs": 3}}
    asked = needs(BIGRec, "d3", {"d3": options, "beam": {"beams": 20}})
    llara = needs(methods.get("llara"), "beam", {}, sasrec={"epochs": 3})
    assert asked["expert"] == llara["sasrec"] and asked.keys() == {"expert"}
    for decoder, quiet in (("d3", {}), ("d3", {"g": 0.5, "expert": "popularity"}), ("beam", {})):
        assert needs(BIGRec, decoder, quiet) == {}
    with pytest.raises(ConfigError, match="no key 'hiden'"):
        needs(BIGRec, "d3", {"g": 0.5, "sasrec": {"hiden": 3}})


def test_a_recommender_of_other_rows_is_refused_before_training(tmp_path):
    kind = methods.get("sasrec")
    few = windows().take(np.arange(4))
    made = kind(configure(kind, {"epochs": 1, "hidden_size": 16, "inner_size": 32}), loss="ce")
    made.fit(few, exam(), Run(seed=1, device="cpu", folder=tmp_path))
    keep(made, tmp_path / "kept")
    model = bigrec(decoder="d3", epochs=1, decoder_options={"g": 0.5})
    run = Run(seed=1, device="cpu", folder=tmp_path, inputs={"expert": tmp_path / "kept"})
    with pytest.raises(ArtefactError, match="sasrec"):
        model.fit(windows(), exam(), run)
