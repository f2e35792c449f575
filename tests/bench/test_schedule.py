"""Running a plan: order, failures that stay inside their cell, kills, resumption, two runners at once."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from bench.api import Order, default_store, execute, prepare
from bench.grid import Choice
from bench.status import remaining
from bench.store import read_row

PLUGIN = '''
"""Methods that misbehave."""
import os, signal, time
from dataclasses import dataclass
import numpy as np
from bench.cell import Need
from bench.errors import Unavailable
from bench.method import Method
from bench.registry import methods
from bench.types import Ranking

@dataclass(frozen=True, kw_only=True)
class HabitConfig:
    habit: str = "good"
    epochs: int = 3

@methods.register("habit")
class Habit(Method):
    """Does what its configuration says, one epoch at a time, with a checkpoint."""
    family = "traditional"
    Config = HabitConfig

    @classmethod
    def needs(cls, config, *, loss, backbone):
        if config.habit == "needs a failure":
            return {"other": Need(method="habit", config={"habit": "raises"})}
        return {"other": Need(method="habit")} if config.habit == "needs" else {}

    def fit(self, train, valid, run):
        if self.config.habit == "raises":
            raise ValueError("a planted fault | with a pipe\\nand a second line")
        if self.config.habit == "unavailable":
            raise Unavailable("needs a machine that nobody has")
        if self.config.habit == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.habit == "hangs":
            time.sleep(600)
        if self.config.habit == "needs":
            assert run.load("other").order.shape == (train.n_items,)
        mark = run.folder / "epochs.txt"
        done = int(mark.read_text()) if mark.exists() else 0
        for epoch in range(done, self.config.epochs):
            time.sleep(0.4 if self.config.habit == "slow" else 0.0)
            mark.write_text(str(epoch + 1))
            run.progress(epoch + 1, self.config.epochs)
        run.facts["resumed_from"] = done
        self.order = np.random.default_rng(run.seed_for("order")).permutation(train.n_items) + 1

    def recommend(self, queries, k):
        return Ranking(np.tile(self.order[:k], (len(queries), 1)))

    def save(self, folder):
        np.save(folder / "order.npy", self.order)

    def load(self, folder, *, device):
        self.order = np.load(folder / "order.npy")
'''


@pytest.fixture
def bench_order(tmp_path):
    """Build an order of ``habit`` cells from their habits."""
    plugin = tmp_path / "habit.py"
    plugin.write_text(PLUGIN)

    def order(*habits, limit=None, **more):
        rows = "\n".join(f"  - {{method: habit, config: {{habit: {h}}}}}" for h in habits)
        suite = tmp_path / "suite.yaml"
        suite.write_text(f"title: t\ndatasets: [ml_100k]\ntest_rows: 40\nrows:\n{rows}\n")
        choice = Choice(scale="embedded")
        return Order(
            suite=str(suite), choice=choice, plugins=[str(plugin)], limit_seconds=limit, **more
        )

    return order


@pytest.fixture
def store(tmp_path):
    return default_store(tmp_path / "out", tmp_path / "run")


def _run(order, store):
    return {row.cell.config["habit"]: row for row in execute(prepare(order, store))}


def test_a_failure_stays_inside_its_cell_and_on_the_board(bench_order, store):
    order = bench_order("good", "raises", "unavailable", "dies", "needs", "needs a failure")
    rows = _run(order, store)
    assert rows["good"].status == "done"
    assert rows["needs"].status == "done"
    assert rows["raises"].status == "failed"
    assert "a planted fault" in rows["raises"].reason
    assert rows["unavailable"].status == "left out"
    assert rows["dies"].status == "failed"
    assert "signal 9 2 times" in rows["dies"].reason
    assert rows["needs a failure"].status == "failed"
    assert "a planted fault" in rows["needs a failure"].reason
    assert rows["good"].n == 40
    assert rows["good"].cost["fit"]["seconds"] >= 0
    again = prepare(order, store)
    assert not again.plan.todo, "answered cells are not run again, failed ones included"
    retried = prepare(bench_order("good", "raises", retry=True), store)
    assert [job.cell.config["habit"] for job in retried.plan.todo] == ["raises"]


def test_a_cell_that_hangs_is_ended_at_its_limit(bench_order, store):
    start = time.monotonic()
    rows = _run(bench_order("hangs", limit=6.0), store)
    assert rows["hangs"].status == "failed"
    assert "limit of 6 s" in rows["hangs"].reason
    assert time.monotonic() - start < 60


SCRIPT = """
import sys
from bench.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def _start(order, store, tmp_path):
    script = tmp_path / "go.py"
    script.write_text(SCRIPT)
    words = ["run", "--suite", order.suite, "--scale", "embedded", "--plugin", order.plugins[0]]
    where = ["--out", str(store.rows.parent), "--store", str(store.root)]
    return subprocess.Popen(
        [sys.executable, str(script), *words, *where],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def test_a_killed_run_resumes_where_it_was_and_ends_as_if_never_killed(
    bench_order, store, tmp_path
):
    order = bench_order("slow")
    process = _start(order, store, tmp_path)
    _wait_for(lambda: list(store.root.rglob("epochs.txt")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(store.rows.rglob("*.json"))
    row = _wait_for(lambda: _run(order, store).get("slow"))
    assert row.status == "done"
    assert row.facts["resumed_from"] >= 1
    clean = default_store(tmp_path / "out2", tmp_path / "run2")
    assert _run(order, clean)["slow"].metrics == row.metrics


def test_two_runners_on_one_store_run_each_cell_once(bench_order, store, tmp_path):
    order = bench_order("slow")
    runners = [_start(order, store, tmp_path) for _ in range(2)]
    assert [runner.wait(timeout=120) for runner in runners] == [0, 0]
    (path,) = store.rows.rglob("*.json")
    assert read_row(path).status == "done"
    logs = [p for p in store.root.rglob("fit.json")]
    assert len(logs) == 1
    assert json.loads(logs[0].read_text())["facts"]["resumed_from"] == 0


def test_a_fit_that_reports_progress_is_timed_by_its_own_pace():
    now = time.time()
    state = {"phase": "fit", "done": 2, "total": 10, "began": now - 20, "at": now}
    assert remaining(state, predicted=5.0, elapsed=25.0) == pytest.approx(80, abs=1)
    assert remaining({}, predicted=5.0, elapsed=2.0) == pytest.approx(3.0)
