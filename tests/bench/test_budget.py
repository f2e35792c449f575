"""A budget chooses what runs by one rule, and a plan takes every option of a run."""

from dataclasses import dataclass, field

import pytest

from bench.api import Order, execute, prepare
from bench.cell import Cell
from bench.cli import main
from bench.errors import ConfigError
from bench.experiment.budget import read_duration, within
from bench.experiment.choice import Choice
from bench.experiment.forecast import Forecast
from bench.experiment.plan import Job, Plan, Site
from bench.experiment.wall import wall_seconds
from bench.results.row_files import rows_under

SUITE = """
title: t
datasets: [ml_100k]
train_rows: 200
test_rows: 20
rows: [{method: popularity}, {method: markov}, {method: random}]
"""


def job(name, seconds, *needs, todo=True, ranks=1):
    """A planned cell; what it needs is named by method."""
    keys = {need: key(need) for need in needs}
    return Job(_cell(name, keys), "missing", todo, True, ranks=ranks, forecast=Forecast(seconds))


def _cell(name, needs):
    return Cell(dataset="d", data_version="v", method=name, needs=needs)


def key(name):
    return _cell(name, {}).key


@pytest.mark.parametrize(("places", "seconds"), [(1, 100.0), (2, 50.0), (9, 50.0)])
def test_the_wall_is_that_of_cells_started_as_they_find_a_place(places, seconds):
    # with two places: a from 0 to 10, b to 20, then d from 10 to 50 and c, which needs b, from 20 to 50
    jobs = [job("a", 10.0), job("b", 20.0), job("c", 30.0, "b"), job("d", 40.0)]
    assert wall_seconds(jobs, places) == seconds


def test_running_cells_hold_their_places_and_what_they_are_needed_for():
    waiting = [job("c", 30.0, "b")]
    assert wall_seconds(waiting, 2, running={key("b"): 5.0, "x": 50.0}) == 50.0
    assert wall_seconds(waiting, 1, running={key("b"): 5.0}) == 35.0
    assert wall_seconds([], 1) == 0.0


def test_a_cell_of_several_ranks_takes_as_many_gpus():
    jobs = [job("a", 10.0, ranks=2), job("b", 10.0)]
    assert wall_seconds(jobs, 2, wide=True) == 20.0
    assert wall_seconds(jobs, 2) == 10.0


@dataclass
class Case:
    """A budget and which cells it lets run."""

    seconds: float
    run: set = field(default_factory=set)


@pytest.mark.parametrize(
    "case",
    [
        Case(9.0),
        Case(10.0, {"a"}),
        Case(30.0, {"a", "d"}),
        Case(70.0, {"a", "b", "c"}),
        Case(90.0, {"a", "b", "c", "d"}),
    ],
    ids=lambda case: f"{case.seconds:g}",
)
def test_cells_are_taken_in_the_suites_order_with_what_they_need_as_far_as_they_fit(case):
    jobs = [
        job("a", 10.0),
        job("b", 25.0),
        job("c", 35.0, "b"),
        job("d", 20.0),
        job("e", 1.0, todo=False),
    ]
    asked = [
        jobs[0].cell.key,
        jobs[2].cell.key,
        jobs[3].cell.key,
        jobs[4].cell.key,
    ]  # b is only needed
    plan = within(Plan(jobs, [], Site(places=1)), case.seconds, asked)
    assert {one.cell.method for one in plan.todo} == case.run
    assert {one.cell.method for one in plan.jobs if one.later} == {"a", "b", "c", "d"} - case.run
    assert plan.wall <= case.seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28800), ("30m", 1800), ("1h30m", 5400), ("90s", 90), ("1.5H", 5400)],
)
def test_a_time_is_read(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "0h", "-1h", "30m1h", "soon"])
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="8h, 30m, 1h30m"):
        read_duration(text)


def test_what_does_not_fit_gets_no_row_and_runs_the_next_time(store, tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE)
    order = {"suite": str(suite), "choice": Choice(scale="embedded"), "jobs": 1}
    whole = prepare(Order(**order), store).plan
    first = next(one for one in whole.jobs if one.cell.method == "popularity")
    prepared = prepare(Order(**order, budget=first.seconds * 1.01), store)
    assert [one.cell.method for one in prepared.plan.todo] == ["popularity"]
    execute(prepared)
    assert [row.cell.method for _, row in rows_under(store.rows)] == ["popularity"]
    rest = prepare(Order(**order), store).plan.todo
    assert {one.cell.method for one in rest} == {"markov", "random"}


@pytest.fixture
def words(tmp_path):
    """A command for each verb, on a small suite."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "run")]
    return ["plan", "--suite", str(tmp_path / "suite.yaml"), "--scale", "embedded", *where]


def test_a_plan_takes_the_command_line_of_a_run(words, capsys):
    how = [
        "--gpus",
        "none",
        "--jobs",
        "2",
        "--limit-minutes",
        "5",
        "--microscope",
        "--gpus-per-cell",
        "1",
    ]
    assert main([*words, *how, "--executor", "local", "--budget", "1h", "--price", "3"]) == 0
    said = capsys.readouterr().out
    banner = next(line for line in said.splitlines() if "cells to run" in line)
    total = next(line for line in said.splitlines() if "in all" in line)
    assert total.startswith(banner.rpartition("; ")[2] + " in all"), "one number"
    assert "2 cell(s) at a time" in total and "at 3 each" in said


def test_what_a_budget_leaves_is_listed(words, capsys):
    assert main([*words, "--budget", "1s"]) == 0
    assert (
        "do not fit into 1 s; the same command without --budget runs them"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--gpu", "--gpus"),
        ("--dataset", "--datasets"),
        ("--buget", "--budget"),
        ("--xyzzy", "--help"),
    ],
)
def test_an_option_is_not_taken_by_its_beginning(words, option, hint, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words, option, "1"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 2 and f"it does not know '{option}'" in said and hint in said


def test_a_price_is_a_number(words, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--price", "cheap"])
    assert "'cheap' is not a price" in capsys.readouterr().err
