"""A notebook: one process in which code and data change between two runs."""

import subprocess
from multiprocessing import forkserver

import pytest

from bench.api import Order, default_store, execute, prepare
from bench.cell import Cell
from bench.data import load
from bench.execution import refresh
from bench.execution.runner import run_cell
from bench.execution.work import Surroundings
from bench.experiment.choice import Choice
from bench.registry import datasets
from bench.results.provenance import provenance

PLUGIN = '''
"""A floor that is being worked on."""
import numpy as np
from bench.method import Method
from bench.registry import methods
from bench.types import Ranking
import draft_helper

@methods.register("draft")
class Draft(Method):
    """Items 1, 2, 3 ... for everybody."""
    family = "floor"
    def fit(self, train, valid, run):
        run.facts["version"] = 1
    def recommend(self, queries, k):
        return Ranking(np.tile(np.arange(1, k + 1), (len(queries), 1)))
'''


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """An order of one cell, the file of its method and a store."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "draft_helper.py").write_text("X = 1")
    plugin = tmp_path / "draft.py"
    plugin.write_text(PLUGIN)
    suite = tmp_path / "suite.yaml"
    suite.write_text("title: t\ndatasets: [ml_100k]\ntest_rows: 20\nrows: [{method: draft}]\n")
    order = Order(suite=str(suite), choice=Choice(scale="embedded"), plugins=[str(plugin)], gpus=[])
    return order, plugin, default_store(tmp_path / "out", tmp_path / "run")


def test_an_edited_method_is_another_cell_and_runs_as_it_is_now(notebook):
    order, plugin, store = notebook
    (first,) = execute(prepare(order, store))
    assert not prepare(order, store).plan.todo
    # as long as before and within the same second
    plugin.write_text(PLUGIN.replace("] = 1", "] = 2"))
    (job,) = prepare(order, store).plan.todo
    assert job.hit == "stale"
    (second,) = execute(prepare(order, store))
    assert (first.status, second.status) == ("done", "done"), second.reason
    assert (first.facts["version"], second.facts["version"]) == (1, 2)
    plugin.with_name("draft_helper.py").write_text("X = 2")
    assert prepare(order, store).plan.todo, "and so is one whose helper was edited"


def test_data_that_changed_is_read_again(notebook, monkeypatch):
    order, _, store = notebook
    (before,) = prepare(order, store).plan.jobs
    read = datasets.get("ml_100k")

    def newer(root):
        return load.replace(read(root), version="newer")

    monkeypatch.setitem(datasets._loaded, "ml_100k", newer)
    (after,) = prepare(order, store).plan.jobs
    assert (before.cell.data_version != "newer", after.cell.data_version) == (True, "newer")
    load.forget()


def test_a_row_names_the_commit_at_which_its_cell_began(tmp_path, monkeypatch):
    asked = []

    def run(words, **more):
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, stdout="at the start\n")

    monkeypatch.setattr("bench.results.provenance.subprocess.run", run)
    monkeypatch.setattr("bench.results.provenance._machine", lambda: "")
    refresh.look_again()

    def fit(attempt):
        assert asked, "the commit is asked for before the fit"
        monkeypatch.setattr("bench.results.provenance._code", lambda: {"commit": "at the end"})
        raise ValueError("a planted fault")

    monkeypatch.setattr("bench.execution.runner._fit_and_examine", fit)
    store = default_store(tmp_path / "out", tmp_path / "run")
    cell = Cell(dataset="ml_100k", data_version="v", method="markov")
    assert run_cell(cell, Surroundings(store=store)).provenance["commit"] == "at the start"
    monkeypatch.undo()
    refresh.look_again()
    assert provenance(threads=1, device="cpu")["commit"] != "at the start"


def test_the_process_that_cells_are_forked_from_ends_when_the_house_changed(monkeypatch):
    monkeypatch.setattr("bench.execution.refresh.multiprocessing.active_children", list)
    refresh.look_again()
    forkserver.ensure_running()
    first = forkserver._forkserver._forkserver_pid
    refresh.look_again()
    assert forkserver._forkserver._forkserver_pid == first
    refresh._seen.popitem()
    refresh.look_again()
    assert forkserver._forkserver._forkserver_pid is None
    forkserver.ensure_running()
    assert forkserver._forkserver._forkserver_pid not in (None, first)
