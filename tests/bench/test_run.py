"""The verbs run and plan: what they say of cells without a result, and what does not stop them."""

import math

import pytest

from bench.api import Order, default_store, prepare
from bench.cell import Row
from bench.cli import main
from bench.cli._options import _gpus, _limit
from bench.cli.run import _Board
from bench.grid import Choice


@pytest.fixture
def failed(tmp_path):
    """Words for a verb over two cells, of which one failed and the other is done."""
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "run")]
    what = ["--suite", "smoke", "--scale", "embedded", "--methods", "markov,popularity"]
    store = default_store(tmp_path / "out", tmp_path / "run")
    choice = Choice(scale="embedded", methods=["markov", "popularity"])
    for job in prepare(Order(suite="smoke", choice=choice), store).plan.jobs:
        status = "failed" if job.cell.method == "markov" else "left out"
        store.write(Row(cell=job.cell, status=status, reason=f"a planted {status}"))
    return [*what, *where]


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_kept_failures_are_shown_with_their_reason_and_the_way_out(verb, failed, capsys):
    assert main([verb, *failed]) == 0
    said = capsys.readouterr().out
    assert "failed before: ml_100k/markov#0: a planted failed" in said
    assert "left out before: ml_100k/popularity#0: a planted left out" in said
    assert "2 cell(s) without a result are kept as they are; --retry runs them again" in said


def test_a_broken_row_delays_the_tables_and_stops_no_cell(tmp_path, capsys, monkeypatch):
    board = _Board(default_store(tmp_path / "out", tmp_path / "run"), str(tmp_path / "out"))
    monkeypatch.setattr(board, "EVERY_SECONDS", -1.0)

    def broken(*words):
        raise ValueError("row.json: not\na row")

    monkeypatch.setattr("bench.board.write_board", broken)
    board([None])
    assert capsys.readouterr().out == "the tables wait: row.json: not a row\n"
    with pytest.raises(ValueError, match="not"):
        board.write()


def test_words_for_no_gpu_and_no_limit():
    assert (_gpus("none"), _gpus(""), _gpus("0,2")) == ([], [], [0, 2])
    assert (_limit(None), _limit(2.0), _limit(0.0)) == (None, 120.0, math.inf)


def test_the_doctor_looks_at_every_part_and_fails_for_what_every_run_needs(capsys, monkeypatch):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for part in ("GPUs", "torch", "RecBole", "dataset ml_100k: 1681 items", "models on this CPU"):
        assert part in said
    monkeypatch.setattr("bench.provenance._versions", dict)
    assert main(["doctor"]) == 1
    assert "FAIL torch is not installed" in capsys.readouterr().out
