"""Rows are whole or absent, keep one answer a question, and one cell has one runner."""

import multiprocessing
from dataclasses import replace

import pytest

from bench.cell import Cell, Row
from bench.disk.sealed_arrays import sealed_npz
from bench.disk.storage import write_whole
from bench.errors import DataError
from bench.results.row_files import read_row, rows_under
from bench.results.store import Store

CELL = Cell(dataset="d", data_version="v1", method="m", versions={"method": 1}, config={"a": 1})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "rows", tmp_path / "run")


def test_a_row_comes_back_as_it_was(store):
    row = Row(cell=CELL, status="done", n=3, valid={"ndcg@10": 0.5}, facts={"family": "floor"})
    path = store.write(row)
    assert read_row(path) == row
    assert store.look(CELL) == "done"


def test_another_version_makes_a_row_stale_and_its_successor_takes_the_place(store):
    store.write(Row(cell=CELL, status="done"))
    newer = replace(CELL, versions={"method": 2})
    assert store.look(newer) == "stale"
    assert store.look(newer, any_version=True) == "done"
    assert store.look(replace(newer, data_version="v2"), any_version=True) == "stale"
    store.write(Row(cell=newer, status="done"))
    assert store.look(newer) == "done"
    assert len(list(store.rows.rglob("*.json"))) == 1


def test_a_row_from_elsewhere_is_told_apart(store, tmp_path):
    store.write(Row(cell=CELL, status="done"))
    fresh = Store(store.rows, tmp_path / "another machine")
    assert fresh.look(CELL) == "done"
    assert fresh.look(CELL, foreign=False) == "foreign"
    assert store.look(CELL, foreign=False) == "done"


def test_a_real_answer_replaces_the_note_that_there_is_none(store):
    absent = replace(CELL, data_version="", config={}, versions={})
    store.write(Row(cell=absent, status="left out", reason="not built"))
    store.write(Row(cell=CELL, status="done"))
    assert [read_row(p).status for p in store.rows.rglob("*.json")] == ["done"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")

    def half(part):
        part.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_row_is_named(tmp_path):
    path = tmp_path / "row.json"
    path.write_text("<<<<<<< HEAD")
    with pytest.raises(DataError, match=r"row.json: not a row"):
        read_row(path)


def test_a_broken_neighbour_stops_nobody(store):
    path = store.write(Row(cell=CELL, status="done"))
    path.with_name("m-#0-broken.json").write_text("<<<<<<< HEAD")
    assert [row.cell for row in store.namesakes(CELL)] == [CELL]
    store.write(Row(cell=replace(CELL, config={"a": 2}), status="done"))


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        '{"cell": 3, "status": "done"}',
        '{"cell": {"dataset": "d", "data_version": "v", "method": "m"}, "status": "well"}',
        '{"cell": {"dataset": "d", "data_version": "v", "method": "m"}, "status": "done", "cost": [1]}',
        '{"cell": {"dataset": "d", "data_version": "v", "method": "m"}, "status": "done", "facts": 0}',
    ],
)
def test_whatever_else_lies_there_is_named_and_passed_over(store, text):
    path = store.write(Row(cell=CELL, status="done"))
    other = path.with_name("other.json")
    other.write_text(text)
    with pytest.raises(DataError, match=r"other.json: not a row"):
        read_row(other)
    assert [found for found, _ in rows_under(store.rows)] == [path]


def test_what_is_being_written_or_has_just_gone_is_passed_over(store):
    path = store.write(Row(cell=CELL, status="done"))
    path.with_name(".half-x.json").write_text(path.read_text())
    path.with_name("gone.json").symlink_to(path.with_name("nowhere"))
    path.with_name("folder.json").mkdir()
    assert [found for found, _ in rows_under(store.rows)] == [path]


def test_a_row_that_goes_between_two_looks_is_missing(store, monkeypatch):
    store.write(Row(cell=CELL, status="done"))

    def gone(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr("bench.results.store.read_row", gone)
    assert store.look(CELL) == "missing"


def test_a_finished_row_never_stands_without_its_positions(store, monkeypatch):
    path = store.write(
        Row(cell=CELL, status="done"), pack=lambda part: part.write_bytes(sealed_npz({"x": 1}))
    )

    def full(path, thing, *, sync):
        raise OSError("no space left")

    monkeypatch.setattr("bench.results.store.write_note", full)
    with pytest.raises(OSError, match="no space"):
        store.write(Row(cell=CELL, status="failed"))
    assert read_row(path).status == "done"
    assert path.with_suffix(".npz").exists()


def test_an_answer_counts_from_the_moment_it_was_given(store):
    store.write(Row(cell=CELL, status="failed"))
    before = store.stamp(CELL.key)
    assert store.answered_since(CELL, before) is None
    store.write(Row(cell=CELL, status="failed"))
    assert store.answered_since(CELL, before).status == "failed"
    store.write(Row(cell=CELL, status="done"))
    assert store.answered_since(CELL, before) is None, "its artefact is not there"
    store.model(CELL.key).mkdir()
    (store.model(CELL.key) / "method.json").touch()
    assert store.answered_since(CELL, before) is None, "nor is its bill"
    (store.folder(CELL.key) / "fit.json").touch()
    assert store.answered_since(CELL, before).status == "done"


def _hold(store, ready, go):
    with store.claim("k") as held:
        ready.put(held)
        go.get()


def test_a_claim_is_held_by_one_and_freed_by_death(store):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Queue(), context.Queue()
    holder = context.Process(target=_hold, args=(store, ready, go))
    holder.start()
    assert ready.get(timeout=60)
    with store.claim("k") as held:
        assert not held
    holder.kill()
    holder.join()
    with store.claim("k", wait=5) as held:
        assert held
