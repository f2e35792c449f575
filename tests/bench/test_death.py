"""Runners, cells and the server that cells are forked from notice each other's end, however it came."""

import multiprocessing
import os
import signal
import time
from multiprocessing import forkserver

import psutil
import pytest
from _faults import is_at_work, kill
from _habits import start, wait_for
from _in_process import counted

from bench.api import execute, prepare
from bench.execution import local
from bench.execution.places import places


def _words(tmp_path):
    log = tmp_path / "habits.log"
    return log.read_text().split() if log.exists() else []


def _at_work(processes):
    return [process for process in processes if is_at_work(process)]


@pytest.fixture
def forked(monkeypatch):
    """Let light cells be forked from a server as heavy ones are; the server's process id."""
    monkeypatch.setattr(local, "heavy", lambda cell: {"numpy"})
    return lambda: forkserver._forkserver._forkserver_pid


@pytest.mark.parametrize("code", [0, 75, 255])
def test_an_exit_code_of_a_plugin_means_nothing_by_itself(bench_order, store, tmp_path, tell, code):
    order = bench_order(f"exits, code: {code}")
    (row,) = execute(prepare(order, store))
    assert (row.status, row.reason) == (
        "failed",
        f"its process ended with exit code {code} 2 times",
    )
    assert _words(tmp_path) == ["fit", "fit"]
    tell(
        f"a plugin that ends its process with code {code}",
        True,
        *counted(store, 1),
        row.reason,
        False,
    )


def test_a_cell_outlives_the_server_it_was_forked_from(bench_order, store, tmp_path, forked, tell):
    killed = []

    def kill_the_server(progress):
        if not killed and _words(tmp_path):
            killed.append(forked())
            os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.5)
            (tmp_path / "go").touch()

    (row,) = execute(prepare(bench_order("waits"), store), notify=kill_the_server)
    assert (row.status, killed != []) == ("done", True)
    assert _words(tmp_path) == ["fit", "recommend", "recommend"], "fitted once, by one process"
    tell(
        "SIGKILL to the server that a running cell was forked from",
        True,
        *counted(store, 1),
        "",
        True,
    )


def test_a_killed_server_is_started_again(bench_order, store, forked, tell):
    before = set(multiprocessing.active_children())  # another test file's pool may be at work
    prepared = prepare(bench_order("good"), store)
    executor = local.LocalExecutor(places(1, []), [job.cell for job in prepared.plan.todo])
    first = forked()
    os.kill(first, signal.SIGKILL)
    (row,) = execute(prepared, executor=executor)
    assert (row.status, forked() != first) == ("done", True)
    assert set(multiprocessing.active_children()) <= before
    tell(
        "SIGKILL to the server before a cell is forked from it", True, *counted(store, 1), "", True
    )


@pytest.mark.parametrize("habit", ["waits", "holds"])
def test_a_cell_ends_with_its_runner_though_nobody_buried_the_runner(
    bench_order, store, tmp_path, tell, habit
):
    runner = start(bench_order(habit), store, tmp_path)
    wait_for(lambda: _words(tmp_path))
    cells = psutil.Process(runner.pid).children(recursive=True)
    kill(runner)
    wait_for(lambda: psutil.Process(runner.pid).status() == psutil.STATUS_ZOMBIE)
    wait_for(lambda: not _at_work(cells), seconds=5)
    runner.wait()
    assert not list(store.rows.rglob("*.json"))
    tell(
        f"SIGKILL to a runner that nobody buries, its cell {habit}",
        True,
        *counted(store, 0),
        "",
        True,
    )


def test_no_cell_begins_after_its_runner_is_gone(bench_order, store, tmp_path, tell):
    runner = start(bench_order("waits"), store, tmp_path)
    # the cell's process is there and still importing
    (cell,) = wait_for(
        lambda: [
            child
            for child in psutil.Process(runner.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
    )
    kill(runner)
    wait_for(lambda: not _at_work([cell]))
    runner.wait()
    assert _words(tmp_path) == []
    tell("SIGKILL to a runner while its cell starts", True, *counted(store, 0), "", True)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_request_to_end_stops_the_cells_and_says_how_to_go_on(
    bench_order, store, tmp_path, tell, how
):
    order = bench_order("waits")
    runner = start(order, store, tmp_path)
    wait_for(lambda: _words(tmp_path))
    cells = psutil.Process(runner.pid).children(recursive=True)
    os.kill(runner.pid, how)
    assert runner.wait(timeout=60) == 130
    assert "run the same command again to go on where it was" in runner.said.read_text()
    wait_for(lambda: not _at_work(cells), seconds=5)
    (tmp_path / "go").touch()
    (row,) = execute(prepare(order, store))
    assert (row.status, row.facts["attempts"]) == ("done", 2)
    tell(how.name, True, *counted(store, 1), runner.said.read_text().splitlines()[-1], True)
