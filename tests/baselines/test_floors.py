"""Floors on five rows that can be checked by eye, and the published table on the real files."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.cell import Run
from bench.errors import ConfigError
from bench.method import keep, restore
from bench.registry import methods
from bench.types import Catalogue, Exam, Queries, Ragged, Ranking, Windows

HOUSE = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("BENCH_DATA", HOUSE.parent / "shared" / "data"))
FLOORS = (
    "popularity",
    "popularity_occurrences",
    "markov",
    "markov_then_new",
    "item_knn",
    "random",
    "random_new",
    "last_item_text",
)
TITLES = ("", "red car", "blue car", "red ball", "green ball", "red car deluxe", "", "new car")
# rows: 1 2 3 | 1 2 4 | 2 3 | 3 2 3 | 5 1 2 ; items 6 and 7 are never trained on
ROWS = ((1, 2, 3), (1, 2, 4), (2, 3), (3, 2, 3), (5, 1, 2))


def windows(rows: tuple[tuple[int, ...], ...] = ROWS) -> Windows:
    time = np.arange(len(rows))
    history = Ragged.of([row[:-1] for row in rows])
    target = np.array([row[-1] for row in rows], np.int32)
    return Windows(Catalogue(TITLES, "toy"), time, history, target, time)


def queries(*rows: tuple[int, ...]) -> Queries:
    time = np.arange(len(rows))
    return Queries(Catalogue(TITLES, "toy"), time, Ragged.of(rows), time)


def fitted(name: str, folder: Path, **config: object):
    method = methods.get(name)(config)
    exam = Exam(queries((1,)), np.array([2], np.int32))
    method.fit(windows(), exam, Run(seed=0, device="cpu", folder=folder))
    return method


def lists(ranking: Ranking) -> list[list[int]]:
    return [[int(i) for i in row if i] for row in ranking.item_QK]


def test_popularity_counts_targets_and_breaks_ties_by_first_occurrence(tmp_path):
    # targets 3 4 3 3 2: three times 3, then 4 before 2
    ranking = fitted("popularity", tmp_path).recommend(queries((1,), ()), 5)
    assert ranking.item_QK.tolist() == [[3, 4, 2, 0, 0]] * 2


def test_popularity_of_occurrences_counts_histories_too(tmp_path):
    # 2 five times, 3 four, 1 three, 4 and 5 once each, 4 first
    ranking = fitted("popularity_occurrences", tmp_path).recommend(queries((1,)), 5)
    assert ranking.item_QK.tolist() == [[2, 3, 1, 4, 5]]


def test_markov_follows_the_last_item_and_is_not_filled(tmp_path):
    # after 2: 3 three times, 4 once; after 3: 2; after 5: 1; after 4 and 7: nothing
    ranking = fitted("markov", tmp_path).recommend(queries((1, 2), (3,), (5,), (4,), (7,), ()), 3)
    assert lists(ranking) == [[3, 4], [2], [1], [], [], []]


def test_markov_ties_go_by_first_occurrence(tmp_path):
    method = methods.get("markov")()
    exam = Exam(queries((1,)), np.array([2], np.int32))
    train = windows(((1, 4), (1, 2), (1, 3), (1, 3)))
    method.fit(train, exam, Run(seed=0, device="cpu", folder=tmp_path))
    assert lists(method.recommend(queries((1,)), 5)) == [[3, 4, 2]]


@pytest.mark.parametrize(("m", "fixed"), [(0, []), (1, [3]), (5, [3, 4])])
def test_markov_then_new_goes_on_with_never_trained_items(tmp_path, m, fixed):
    ranking = fitted("markov_then_new", tmp_path, m=m).recommend(queries((2,), (7,)), 5)
    assert lists(ranking) == [fixed, []]
    assert ranking.tail.start_Q.tolist() == [len(fixed), 0]
    assert np.flatnonzero(ranking.tail.pool).tolist() == [6, 7]


def test_random_draws_from_everything_or_from_the_new(tmp_path):
    whole = fitted("random", tmp_path).recommend(queries((1,), (2,)), 3)
    new = fitted("random_new", tmp_path).recommend(queries((1,), (2,)), 3)
    assert np.flatnonzero(whole.tail.pool).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert np.flatnonzero(new.tail.pool).tolist() == [6, 7]
    assert not whole.item_QK.any() and whole.tail.start_Q.tolist() == [0, 0]


def test_item_knn_equals_its_formula_by_loops(tmp_path):
    config = {"decay": 1.5, "recency": 0.5, "normalise": 0.5}
    method = fitted("item_knn", tmp_path, **config)
    similar = np.zeros((8, 8))
    windows_with = np.array([sum(i in row for row in ROWS) for i in range(8)])
    for row in ROWS:
        for y in range(len(row)):
            for x in range(y):
                if row[x] != row[y]:
                    both = windows_with[row[x]] * windows_with[row[y]]
                    similar[row[x], row[y]] += (y - x) ** -1.5 / both**0.5
    history = (1, 3, 2)
    score = sum(similar[item] * (3 - r) ** -0.5 for r, item in enumerate(history))
    ranking = method.recommend(queries(history), 7)
    expected = [int(i) for i in np.argsort(-score, kind="stable") if score[i] > 0]
    assert lists(ranking) == [expected]
    np.testing.assert_allclose(ranking.score_QK[0, : len(expected)], score[expected], rtol=1e-6)


def test_item_knn_keeps_the_most_similar_neighbours_only(tmp_path):
    method = fitted("item_knn", tmp_path, neighbours=1)
    assert lists(method.recommend(queries((2,)), 5)) == [[3]]


def test_last_item_text_leaves_out_the_item_itself_but_not_its_twins(tmp_path):
    # "red car": first its extension, then titles that share one word; "green ball" shares none
    ranking = fitted("last_item_text", tmp_path, longest=1).recommend(queries((4, 1), (6,)), 7)
    first, of_empty_title = lists(ranking)
    assert first[0] == 5 and set(first) == {5, 2, 3, 7} and of_empty_title == []
    assert (np.diff(ranking.score_QK[0, :4]) <= 0).all()


def test_last_item_text_knows_characters_too(tmp_path):
    method = fitted("last_item_text", tmp_path, analyser="char_wb", longest=3)
    assert lists(method.recommend(queries((3,)), 1)) == [[4]]  # ball is longer than red


@pytest.mark.parametrize("name", FLOORS)
def test_contract(name, tmp_path):
    method = fitted(name, tmp_path)
    asked = queries((1, 2), (3,), (5, 2), (7,), ())
    ranking = method.recommend(asked, 4)
    assert ranking.item_QK.shape == (5, 4)
    for row in lists(ranking):
        assert len(set(row)) == len(row) and all(1 <= i <= 7 for i in row)
    padding = np.diff((ranking.item_QK > 0).astype(int), axis=1)
    assert (padding <= 0).all()  # 0 stands at the end only
    turned = method.recommend(asked.take(np.array([4, 3, 2, 1, 0])), 4)
    assert (turned.item_QK[::-1] == ranking.item_QK).all()
    keep(method, tmp_path / "kept")
    again = restore(tmp_path / "kept", device="cpu").recommend(asked, 4)
    assert (again.item_QK == ranking.item_QK).all()
    assert (again.tail is None) == (ranking.tail is None)
    assert method.family == "floor"


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("markov_then_new", {"m": -1}),
        ("item_knn", {"neighbours": 0}),
        ("item_knn", {"decay": -1.0}),
        ("last_item_text", {"analyser": "lines"}),
        ("last_item_text", {"longest": 0}),
    ],
)
def test_bad_values_are_refused(name, config):
    with pytest.raises(ConfigError, match=r"allowed: |expected"):
        methods.get(name)(config)


def test_floors_load_neither_torch_nor_recbole():
    code = (
        "import sys; from bench.registry import methods; "
        f"[methods.get(n) for n in {FLOORS!r}]; "
        "sys.exit(bool({'torch', 'recbole', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=HOUSE).returncode == 0


def _published(name: str) -> tuple[Windows, Exam]:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"no {name} under {DATA}; set BENCH_DATA")
    by_id = {int(k): v for k, v in json.loads((folder / "id2name4Rec.json").read_text()).items()}
    catalogue = Catalogue(("", *(by_id[i] for i in range(1, len(by_id) + 1))), name)

    def read(part: str) -> Windows:
        with (folder / f"{part}.csv").open(newline="") as file:
            table = [(json.loads(r["item_ids"]), r) for r in csv.DictReader(file)]
        user = np.array([int(r["user_id"]) for _, r in table])
        time = np.array([int(r["timestamp"]) for _, r in table])
        target = np.array([row[-1] for row, _ in table], np.int32)
        return Windows(catalogue, user, Ragged.of([row[:-1] for row, _ in table]), target, time)

    test = read("test")
    asked = Queries(catalogue, test.user_W, test.history, test.timestamp_W)
    return read("train"), Exam(asked, test.target_W)


def _expected(ranking: Ranking, target_Q: np.ndarray) -> str:
    gain_K = 1 / np.log2(np.arange(10) + 2)
    found_QK = ranking.item_QK == target_Q[:, None]
    ndcg_Q, hit_Q = found_QK @ gain_K, found_QK.sum(1).astype(float)
    if ranking.tail is not None:
        sure = np.append(0, np.cumsum(gain_K))[np.minimum(ranking.tail.start_Q, 10)]
        chance_Q = ranking.tail.pool[target_Q] * (hit_Q == 0) / ranking.tail.pool.sum()
        ndcg_Q += chance_Q * (gain_K.sum() - sure)
        hit_Q += chance_Q * (10 - ranking.tail.start_Q)
    return f"{ndcg_Q.mean():.4f}/{hit_Q.mean():.4f}"


PUBLISHED = {
    ("popularity", 0): (".0046/.0096", ".0029/.0058", ".0005/.0016"),
    ("popularity_occurrences", 0): (".0028/.0052", ".0008/.0013", ".0002/.0005"),
    ("markov", 0): (".0077/.0121", ".0205/.0315", ".0213/.0317"),
    ("random_new", 0): (".0113/.0250", ".0066/.0146", ".0336/.0739"),
    ("markov_then_new", 10): (".0147/.0280", ".0252/.0423", ".0389/.0737"),
    ("markov_then_new", 5): (".0151/.0294", ".0239/.0385", ".0419/.0832"),
    ("markov_then_new", 3): (".0147/.0283", ".0220/.0340", ".0422/.0840"),
}


@pytest.mark.parametrize(("column", "dataset"), list(enumerate(("book", "toy", "office"))))
def test_known_figures_on_the_published_files(column, dataset, tmp_path):
    train, test = _published(dataset)
    run = Run(seed=0, device="cpu", folder=tmp_path)
    for (name, m), figures in PUBLISHED.items():
        method = methods.get(name)({"m": m} if m else {})
        method.fit(train, test, run)
        got = _expected(method.recommend(test.queries, 10), test.target_Q)
        assert got.replace("0.", ".") == figures[column], (name, m)


def test_next_id_counts_on_from_the_last_item_and_wraps():
    catalogue = Catalogue(("", *"abcde"))
    queries = Queries(catalogue, np.arange(2), Ragged.of([[3, 1], [4]]), np.zeros(2, int))
    lists = methods.get("next_id")().recommend(queries, 3).item_QK
    assert lists.tolist() == [[2, 3, 4], [5, 1, 2]]
