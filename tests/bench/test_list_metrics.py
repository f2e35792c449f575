"""Metrics of lists on four titles and three lists, worked by hand; and the contract of every metric."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from _board_rows import cell, done, lists_of, tiny_board, write

from bench.board import as_frame, write_board
from bench.cell import K
from bench.cli import main
from bench.errors import UnknownName
from bench.evaluation.lists import top_lists
from bench.evaluation.metrics import (
    ListMetric,
    find,
    gain,
    luck,
    metrics,
    position_names,
    rank_counts,
)
from bench.evaluation.positions import MISSING, Positions
from bench.registry import _unload
from bench.results.figures import figures_of
from bench.types import Catalogue, Ragged, RandomTail, Ranking, Windows

#            trained 5, 3, 0 and 2 times of 10; frequencies over the lists: 3, 2, 1, 0
LISTS = lists_of([[1, 2], [1, 3], [2, 1]])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coverage@2", 3 / 4),
        ("coverage@1", 2 / 4),
        ("untrained@2", 1 / 6),
        ("untrained@1", 0.0),
        # p = (c + 1) / (10 + 4): 6/14 three times, 4/14 twice, 1/14 once
        ("novelty@2", -(3 * math.log2(6 / 14) + 2 * math.log2(4 / 14) + math.log2(1 / 14)) / 6),
        # 0 1 2 3: (-3 * 0 - 1 * 1 + 1 * 2 + 3 * 3) / (4 * 6)
        ("gini@2", 10 / 24),
    ],
)
def test_metrics_of_lists_by_hand(name, value):
    metric, k = find(name)
    assert metric().value(LISTS.cut(k)) == pytest.approx(value, rel=1e-12)


def test_lists_that_chance_continues_have_no_metric_of_lists():
    _, packed = done([0, 1, 2], cell("sasrec"))
    told = [
        figures_of(replace(packed, masks={}, lists=lists)).mean("coverage@10")
        for lists in (LISTS, replace(LISTS, by_chance=True), None, lists_of([[]] * 3))
    ]
    assert told == [0.75, None, None, None]


def windows(titles, targets):
    n = len(targets)
    history = Ragged.of([[4]] * n)
    return Windows(Catalogue(titles), np.arange(n), history, np.array(targets), np.zeros(n))


def test_lists_name_each_title_once_and_end_where_chance_or_failure_begins():
    titles = ("", "a", "b", "a", "c", "d")
    train = windows(titles, [1, 3, 2])
    item_QK = np.array([[3, 1, 2, 4], [5, 2, 0, 0], [1, 2, 4, 5]])
    ranking = Ranking(item_QK, failed_Q=np.array([False, True, False]))
    found = top_lists(ranking, train.catalogue, train)
    assert found.title_QK.shape == (3, K)
    assert found.title_QK[:, :5].tolist() == [[1, 2, 4, 0, 0], [0] * 5, [1, 2, 4, 5, 0]]
    assert found.title_D.tolist() == [1, 2, 4, 5]
    assert found.count_D.tolist() == [2, 1, 0, 0], "both items that are called a"
    assert found.seen_D.tolist() == [True, True, True, False], "c is in a history"
    assert (found.n_titles, found.n_train, found.by_chance) == (4, 3, False)
    tail = RandomTail(np.array([1, 0, 4]), np.ones(6, bool))
    drawn = top_lists(Ranking(item_QK, tail=tail), train.catalogue, train)
    assert drawn.title_QK[:, :4].tolist() == [[1, 0, 0, 0], [0] * 4, [1, 2, 4, 5]]
    assert drawn.by_chance


@pytest.mark.parametrize("name", list(metrics))
def test_every_metric_has_a_label_a_formula_and_a_source(name):
    kind = metrics.get(name)
    assert kind.label
    assert "Source:" in kind.__doc__
    assert all(1 <= k <= K for k in kind.shown)


@pytest.mark.parametrize("name", position_names((1, 3, K)))
def test_counts_by_rank_give_the_mean_of_the_queries(name):
    rng = np.random.default_rng(3)
    n = 200
    position_Q = np.where(rng.random(n) < 0.3, rng.integers(0, K, n), MISSING).astype(np.uint8)
    pool = rng.integers(3, 30, n)
    chance_Q = np.where(position_Q == MISSING, 1 / pool, 0).astype(np.float32)
    tail = Positions(position_Q, chance_Q, rng.integers(0, K + 1, n).astype(np.uint8))
    for positions in (Positions(position_Q), tail):
        gain_Q = gain(positions, name)
        assert ((gain_Q >= 0) & (gain_Q <= 1)).all()
        assert rank_counts(positions).mean(name) == pytest.approx(gain_Q.mean(), rel=1e-12)
    assert luck(Positions(position_Q), name) == 0.0
    assert luck(tail, name) > 0.0


def test_names_that_are_none():
    for name in ("ndgc@10", "ndcg", "ndcg@0", "ndcg@11", "ndcg@-1", "ndcg@x"):
        with pytest.raises(UnknownName, match="Known: coverage@10"):
            find(name)


PLUGIN = '''
"""A metric of mine."""
from bench.evaluation.metrics import PositionMetric, metrics

@metrics.register("first_two")
class FirstTwo(PositionMetric):
    """Half a point for rank 2, one for rank 1. Source: this test."""
    label, shown = "First two", (5,)
    def weight(self, rank_K):
        return (rank_K == 1) + 0.5 * (rank_K == 2)
'''


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "my_metric.py"
    path.write_text(PLUGIN)
    yield path
    _unload("plugin_my_metric")


def test_a_metric_is_one_file_and_touches_no_row(plugin, tmp_path, capsys):
    rows = tiny_board(tmp_path / "rows")
    before = {path: path.read_bytes() for path in rows.rglob("*") if path.is_file()}
    write_board(rows, tmp_path / "out")  # what this leaves in the cache must not hide the new one
    words = ["--rows", str(rows), "--plugin", str(plugin)]
    assert main(["compare", "sasrec", "bigrec", "--metric", "first_two@5", *words]) == 0
    # two seeds of sasrec: (1 + .5) / 6 and 1 / 6; bigrec: 2 / 6
    assert re.search(r"A  0\.2083 .*\n  B  0\.3333 ", capsys.readouterr().out)
    assert main(["board", "--out", str(tmp_path / "out"), *words]) == 0
    home = tmp_path / "out/tables/small-corrected-protocol1/office"
    with (home / "quality.csv").open() as text:
        column = {line["method"]: line["first_two@10"] for line in csv.DictReader(text)}
    assert column["sasrec"] == "0.208333"
    assert "| First two@5 |" in (home / "quality.md").read_text()
    assert as_frame(rows)["cold.first_two@10"].max() == pytest.approx(1 / 3)
    assert {path: path.read_bytes() for path in rows.rglob("*") if path.is_file()} == before


def test_a_metric_of_lists_is_shown_where_there_are_lists(tmp_path):
    for method, rows in (("bigrec", [[1, 2]] * 6), ("sasrec", None)):
        row, packed = done([0] * 6, cell(method))
        lists = None if rows is None else lists_of(rows)
        write(tmp_path / "rows", row, replace(packed, lists=lists))
    write_board(tmp_path / "rows", tmp_path / "out")
    text = (tmp_path / "out/tables/small-corrected-protocol1/office/quality.csv").read_text()
    found = {line["method"]: line["coverage@10"] for line in csv.DictReader(text.splitlines())}
    assert found == {"bigrec": "0.5", "sasrec": ""}


def test_list_metrics_are_of_whole_lists():
    assert [name for name in metrics if issubclass(metrics.get(name), ListMetric)] == [
        "coverage",
        "gini",
        "novelty",
        "untrained",
    ]
