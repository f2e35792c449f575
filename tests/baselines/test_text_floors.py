"""Text floors on seven titles that can be checked by eye, by loops, and on the published files."""

import os
from pathlib import Path

import numpy as np
import pytest

from bench.cell import Run
from bench.data.load import load_dataset
from bench.evaluation.metrics import evaluate
from bench.method import keep, restore
from bench.registry import methods
from bench.types import Catalogue, Exam, Queries, Ragged, Windows

DATA = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
TITLES = ("", "red car", "blue car", "red ball", "green ball", "red car deluxe", "", "new red car")
# items 6 and 7 are never trained on; 6 has no title
ROWS = ((1, 2, 3), (1, 2, 4), (2, 3), (3, 2, 3), (5, 1, 2))


def queries(*rows):
    return Queries(Catalogue(TITLES), np.arange(len(rows)), Ragged.of(rows), np.arange(len(rows)))


def fitted(name, folder, **config):
    train = queries(*(row[:-1] for row in ROWS))
    target = np.array([row[-1] for row in ROWS], np.int32)
    windows = Windows(train.catalogue, train.user_Q, train.history, target, train.timestamp_Q)
    method = methods.get(name)(config)
    inputs = {}
    for role, need in method.needs(method.config, loss=None, backbone=None).items():
        keep(fitted(need.method, folder, **need.config), folder / role)
        inputs[role] = folder / role
    run = Run(seed=0, device="cpu", folder=folder, inputs=inputs)
    method.fit(windows, Exam(queries((1,)), np.array([2], np.int32)), run)
    return method


def lists(method, *rows, k=7):
    return [[int(i) for i in row if i] for row in method.recommend(queries(*rows), k).item_QK]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 1 is "red car": "red car deluxe" and "new red car" share both words and a pair;
        # of "red ball" and "blue car", one word each, blue is the rarer rest and weighs more
        ("last_item_text_masked", [[5, 7, 2], [5, 7, 3, 2]]),
        ("last_item_text_new", [[7], [7]]),
        ("last_item_text_above", [[5, 7, 2], [5, 7, 3, 2]]),
    ],
)
def test_the_history_is_left_out_of_the_nearest_titles(tmp_path, name, expected):
    assert lists(fitted(name, tmp_path), (3, 1), (1,)) == expected


def test_ids_above_the_last_are_none_behind_the_end(tmp_path):
    assert lists(fitted("last_item_text_above", tmp_path), (2,), (7,)) == [[5, 7], []]


@pytest.mark.parametrize(("name", "recency"), [("bm25", 0.0), ("bm25_recent", 2.0)])
def test_bm25_equals_its_formula_by_loops(tmp_path, name, recency):
    words = [title.split() for title in TITLES[1:]]
    mean = sum(map(len, words)) / 7
    history = (3, 2)
    score = dict.fromkeys(range(1, 8), 0.0)
    for item in score:
        title = words[item - 1]
        for r, old in ((1, 2), (2, 3)):
            for word in words[old - 1]:
                df = sum(word in other for other in words)
                idf = np.log(1 + (7 - df + 0.5) / (df + 0.5))
                tf = title.count(word)
                below = tf + 1.5 * (1 - 0.75 + 0.75 * len(title) / mean)
                score[item] += r**-recency * idf * tf * 2.5 / below
    expected = sorted(
        (i for i in score if score[i] > 0 and i not in history), key=lambda i: -score[i]
    )
    ranking = fitted(name, tmp_path).recommend(queries(history), 7)
    found = [int(i) for i in ranking.item_QK[0] if i]
    assert found == expected
    np.testing.assert_allclose(
        ranking.score_QK[0, : len(found)], [score[i] for i in found], rtol=1e-5
    )


def test_fused_lists_add_reciprocal_ranks_and_the_first_wins_ties(tmp_path):
    # titles for (2,): 1 5 7; ids: 3 4 5 6 7 1
    method = fitted("text_next_id", tmp_path, constant=0.0)
    titles = lists(fitted("last_item_text_masked", tmp_path), (2,))[0]
    score = {i: 1 / rank for rank, i in enumerate(titles, start=1)}
    for rank, i in enumerate((3, 4, 5, 6, 7, 1), start=1):
        score[i] = score.get(i, 0.0) + 1 / (rank + 0.5)
    expected = sorted(score, key=lambda i: (-score[i], i))
    assert lists(method, (2,)) == [expected]


def test_encoded_titles_are_compared_by_the_sum_of_the_history(tmp_path):
    vectors_ND = fitted("title_vectors", tmp_path, text_encoder="hash").vectors_ND
    score_N = vectors_ND @ (vectors_ND[2] + 0.5 * vectors_ND[3])
    expected = [i for i in np.argsort(-score_N, kind="stable") if i not in (0, 2, 3)]
    method = fitted("minilm_history", tmp_path / "whole", text_encoder="hash")
    assert lists(method, (3, 2)) == [expected]
    nearest = np.argsort(-(vectors_ND @ vectors_ND[2]), kind="stable")
    last = fitted("minilm_last", tmp_path / "last", text_encoder="hash")
    assert lists(last, (3, 2)) == [[i for i in nearest if i not in (0, 2, 3)]]
    new = fitted("minilm_history_new", tmp_path / "new", text_encoder="hash")
    assert {*lists(new, (3, 2))[0]} == {6, 7}


@pytest.mark.parametrize("name", ["bm25", "item_knn_text", "minilm_history_new"])
def test_a_kept_floor_recommends_the_same(tmp_path, name):
    given = {"text_encoder": "hash"} if name.startswith("minilm") else {}
    method = fitted(name, tmp_path, **given)
    keep(method, tmp_path / "kept")
    assert lists(restore(tmp_path / "kept", device="cpu"), (3, 2)) == lists(method, (3, 2))


@pytest.mark.parametrize("name", ["bm25", "last_item_text_masked"])
def test_titles_without_words_give_empty_lists(tmp_path, name):
    catalogue = Catalogue(("", "", ""))
    asked = Queries(catalogue, np.arange(1), Ragged.of([(1,)]), np.zeros(1, int))
    assert not fitted(name, tmp_path).recommend(asked, 2).item_QK.any()


PUBLISHED = {
    "last_item_text_masked": ".0827/.1371",
    "last_item_text_above": ".1018/.1725",
    "bm25": ".0597/.1200",
    "bm25_recent": ".0829/.1444",
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_known_figures_on_office(tmp_path, name):
    if not (DATA / "office").is_dir():
        pytest.skip(f"no office under {DATA}; set BENCH_DATA")
    split = load_dataset("office", DATA).split
    method = methods.get(name)()
    method.fit(split.train, split.valid, Run(seed=0, device="cpu", folder=tmp_path))
    ranking = method.recommend(split.test.queries, 20)
    found = evaluate(
        ranking, split.test, train_count=split.train.target_count, names=method.identity
    )
    got = f"{found['ndcg@10']:.4f}/{found['hit@10']:.4f}"
    assert got.replace("0.", ".") == PUBLISHED[name]
