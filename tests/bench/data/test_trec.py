"""TREC runs and qrels: read back as written, and scored alike by ir-measures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data.formats.trec import read_qrels, read_run, write_qrels, write_run
from bench.errors import ConfigError, DataError
from bench.evaluation.metrics import means
from bench.evaluation.positions import positions
from bench.types import Catalogue, Exam, Queries, Ragged, RandomTail, Ranking

TITLES = ("", "a", "b", "a", "c", "d", "e", "f", "g", "h", "i", "j", "k")  # items 1 and 3 share one


def exam_of(targets):
    n = len(targets)
    histories = Ragged.of([[1]] * n)
    queries = Queries(Catalogue(TITLES), np.arange(n), histories, np.arange(n))
    return Exam(queries, np.array(targets, np.int32))


def test_a_run_small_enough_to_read(tmp_path):
    ranking = Ranking(
        np.array([[3, 1, 2], [4, 5, 0], [6, 7, 8]]),
        np.array([[0.9, 0.8, -0.5], [2.0, 2.0, -np.inf], [1, 1, 1]]),
        failed_Q=np.array([False, False, True]),
    )
    exam = exam_of([2, 5, 6])
    write_run(ranking, exam, tmp_path / "run", tag="mine")
    assert (tmp_path / "run").read_text().splitlines() == [
        "0 Q0 1 1 0.9 mine",
        "0 Q0 2 2 -0.5 mine",
        "1 Q0 4 1 -1.0 mine",
        "1 Q0 5 2 -2.0 mine",
    ]
    write_qrels(exam_of([3, 5, 6]), tmp_path / "qrels")
    assert (tmp_path / "qrels").read_text() == "0 0 1 1\n1 0 5 1\n2 0 6 1\n"
    write_run(ranking, exam, tmp_path / "run", identity="item")
    back = read_run(tmp_path / "run", 3)
    assert back.item_QK.tolist() == [[3, 1, 2], [4, 5, 0], [0, 0, 0]]
    assert back.failed_Q.tolist() == [False, False, True]


def test_items_go_by_their_own_ids(tmp_path):
    names = ("", "B 1", "50%", *(f"x{i}" for i in range(3, 13)))
    catalogue = Catalogue(TITLES, item_names=names)
    exam = replace(exam_of([2, 5]), queries=replace(exam_of([2, 5]).queries, catalogue=catalogue))
    ranking = Ranking(np.array([[3, 2], [5, 4]]))
    write_run(ranking, exam, tmp_path / "run")
    write_qrels(exam, tmp_path / "qrels")
    lines = (tmp_path / "run").read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["B%201", "50%25", "x5", "x4"]  # 1 and 3 are one
    assert read_run(tmp_path / "run", 2, catalogue).item_QK.tolist() == [[1, 2], [5, 4]]
    assert read_qrels(tmp_path / "qrels", catalogue).tolist() == [2, 5]
    with pytest.raises(DataError, match="not a whole number"):
        read_run(tmp_path / "run", 2)


LISTS = st.lists(
    st.tuples(st.permutations(range(1, 13)), st.integers(1, 12), st.integers(0, 10), st.booleans()),
    min_size=1,
    max_size=12,
)
MANY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def ranking_of(rows, scored):
    items = np.array([row[0][:10] for row in rows])
    items[np.arange(10) >= np.array([row[2] for row in rows])[:, None]] = 0
    failed = np.array([row[3] for row in rows])
    items[failed] = 0
    score = np.where(items > 0, -np.arange(10) / 7 - 0.3, -np.inf) if scored else None
    return Ranking(items, score, failed_Q=failed)


@MANY
@given(LISTS, st.booleans())
def test_what_is_written_is_read_back(tmp_path, rows, scored):
    ranking, exam = ranking_of(rows, scored), exam_of([row[1] for row in rows])
    write_run(ranking, exam, tmp_path / "run", identity="item")
    write_qrels(exam, tmp_path / "qrels", identity="item")
    back = read_run(tmp_path / "run", len(exam))
    width = back.item_QK.shape[1]
    np.testing.assert_array_equal(back.item_QK, ranking.item_QK[:, :width])
    assert not ranking.item_QK[:, width:].any()
    if scored:
        np.testing.assert_array_equal(back.score_QK, ranking.score_QK[:, :width])
    np.testing.assert_array_equal(read_qrels(tmp_path / "qrels"), exam.target_Q)


@MANY
@given(LISTS, st.booleans(), st.sampled_from(["title", "item"]))
def test_ir_measures_gives_the_numbers_of_the_board(tmp_path, rows, scored, identity):
    ir_measures = pytest.importorskip("ir_measures")
    ranking, exam = ranking_of(rows, scored), exam_of([row[1] for row in rows])
    write_run(ranking, exam, tmp_path / "run", identity=identity)
    write_qrels(exam, tmp_path / "qrels", identity=identity)
    found = positions(ranking, exam, identity=identity, train_count=np.zeros(13, int))
    ours = means(found)
    from ir_measures import Success, nDCG

    theirs = ir_measures.calc_aggregate(
        [nDCG @ 5, nDCG @ 10, Success @ 1, Success @ 10],
        list(ir_measures.read_trec_qrels(str(tmp_path / "qrels"))),
        list(ir_measures.read_trec_run(str(tmp_path / "run"))),
    )
    for name, measure in {
        "ndcg@5": nDCG @ 5,
        "ndcg@10": nDCG @ 10,
        "hit@1": Success @ 1,
        "hit@10": Success @ 10,
    }.items():
        assert theirs[measure] == pytest.approx(ours[name], abs=1e-12), name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 Q0 5 1 0.5", "5 fields, 6 are needed"),
        ("0 Q0 x 1 0.5 t", "line 1: 'x' is not a whole number"),
        ("0 Q0 5 1 nan t", "not a finite number"),
        ("9 Q0 5 1 0.5 t", r"query 9 is not in 0..1"),
    ],
)
def test_runs_that_are_none(tmp_path, line, message):
    (tmp_path / "run").write_text(line)
    with pytest.raises(DataError, match=message):
        read_run(tmp_path / "run", 2)


@pytest.mark.parametrize("text", ["0 0 5 1\n0 0 6 1\n", "1 0 5 1\n"])
def test_qrels_that_are_none(tmp_path, text):
    (tmp_path / "qrels").write_text(text)
    with pytest.raises(DataError, match=r"second answer|once each"):
        read_qrels(tmp_path / "qrels")


def test_what_has_no_run(tmp_path):
    ranking, exam = Ranking(np.array([[1, 2]])), exam_of([1])
    with pytest.raises(ConfigError, match="one word"):
        write_run(ranking, exam, tmp_path / "run", tag="two words")
    by_chance = Ranking(np.array([[1, 2]]), tail=RandomTail(np.array([1]), np.ones(13, bool)))
    with pytest.raises(ConfigError, match="by chance"):
        write_run(by_chance, exam, tmp_path / "run")
