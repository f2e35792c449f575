"""The order in which cells run."""

from bench.cell import Cell
from bench.experiment.forecast import Forecast
from bench.experiment.plan import Job, _cheap_first


def _job(seconds, *needs, asked=True, todo=True):
    cell = Cell(dataset="d", data_version="v", method="m", needs={name: name for name in needs})
    return Job(cell, "missing", todo, asked, forecast=Forecast(seconds))


def test_the_cheapest_runs_first_and_is_charged_with_needs_that_nobody_has_run():
    jobs = {
        "c": _job(6.5),
        "b": _job(2, "need"),
        "a": _job(1, "need"),
        "need": _job(5, asked=False),
    }
    # a costs 6 with its need; then b costs 2 instead of 7
    assert list(_cheap_first(jobs)) == ["need", "a", "b", "c"]


def test_a_need_that_is_there_costs_nothing():
    jobs = {"a": _job(3), "b": _job(2, "need"), "need": _job(5, asked=False, todo=False)}
    assert list(_cheap_first(jobs)) == ["need", "b", "a"]


def test_what_nobody_asks_for_or_needs_is_left_out():
    assert list(_cheap_first({"a": _job(3), "b": _job(1, asked=False)})) == ["a"]
