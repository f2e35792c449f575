"""What a run shows while it goes: one line a minute in a pipe, a table of constant width on a terminal."""

import io
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench.api import default_store
from bench.cell import Cell
from bench.cli import main
from bench.cli._live import Watch
from bench.disk.sealed import write_note
from bench.execution.schedule import Progress
from bench.experiment.forecast import Forecast
from bench.experiment.plan import Job, Plan, Site


@pytest.fixture
def store(tmp_path):
    return default_store(tmp_path / "out", tmp_path / "run")


def job(method, seconds, **more):
    """A cell that is to run."""
    cell = Cell(dataset="book", data_version="v", method=method, **more)
    return Job(cell, "missing", True, True, forecast=Forecast(seconds))


PLAN = Plan([job("sasrec", 50.0), job("dros", 50.0), job("markov", 60.0)], [], Site(places=2))


def progress(store, numbers):
    """Two running cells that said something, and one that waits."""
    cells = [Cell(dataset="book", data_version="v", method=name) for name in ("sasrec", "dros")]
    for cell in cells:
        status = {"phase": "fit", "done": 3, "total": 100, "numbers": numbers, "at": time.time()}
        write_note(store.folder(cell.key) / "status.json", status)
    running = [SimpleNamespace(cell=cell, started=time.monotonic(), note="") for cell in cells]
    waiting = [job("markov", 60.0)]
    return Progress(waiting, running)


def test_a_pipe_gets_one_line_a_minute(store, capsys):
    with Watch(store, PLAN, console=Console(file=io.StringIO())) as watch:
        for _ in range(3):
            watch(progress(store, {"loss": 1.5}))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("... 0 of 3 cells")
    assert "book/sasrec#0@" in line and "book/dros#0@" in line and "fit 3/100 loss 1.5" in line


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_keeps_its_width_whatever_the_cells_say(store, width):
    shown = []
    for numbers in (
        {},
        {"loss": 1.5, "ndcg5": 0.01, "grad_norm": 12345.678, "learning_rate": 1e-4},
    ):
        console = Console(file=io.StringIO(), width=width, force_terminal=True)
        with Watch(store, PLAN, console=console) as watch:
            table = watch._table(progress(store, numbers))
        plain = Console(file=io.StringIO(), width=width)
        plain.print(table)
        shown.append(plain.file.getvalue().splitlines())
    short, long = shown
    assert len(short) == len(long) == 4, "a headline, titles, and a line a cell"
    assert short[1] == long[1], "the columns stand where they stood"
    assert max(map(len, short + long)) <= width
    assert "book/sasrec#0@" in long[2] or "book/sasrec" in long[2]


def test_at_the_start_what_is_to_go_is_what_the_plan_says(store):
    watch = Watch(store, PLAN, console=Console(file=io.StringIO()))
    line = watch._headline(Progress(PLAN.todo), [])
    assert line == "0 of 3 cells, 0 s so far, about 2 min to go" and PLAN.wall == 110


def test_another_system_is_refused_in_words(monkeypatch, capsys):
    monkeypatch.setattr("bench.cli.sys.platform", "win32")
    assert main(["list"]) == 2
    assert "on Windows use WSL" in capsys.readouterr().err
