"""Cells of several processes, and cells that run out of memory: what is told, tried again and left."""

import os
import signal

import psutil
import pytest
from _faults import is_at_work, kill
from _habits import start, wait_for

from bench.api import Order, execute, prepare
from bench.experiment.choice import Choice

PLUGIN = '''
"""A method that shares its work and misbehaves on its second rank."""
import os, signal, time
from pathlib import Path
import numpy as np
import torch
from bench import ranks
from bench.config import Config
from bench.method import Method
from bench.registry import methods
from bench.types import Ranking

class SharedConfig(Config):
    habit: str = "good"

@methods.register("shared")
class Shared(Method):
    """Items in the order of a sum over ranks."""
    family = "traditional"
    Config = SharedConfig

    @classmethod
    def spreads(cls, config, *, loss):
        return True

    def fit(self, train, valid, run):
        with Path(__file__).with_name("shared.log").open("a") as lines:
            lines.write(f"{ranks.rank()} {os.getpid()} {os.getppid()}\\n")
        second = ranks.rank() == 1
        if self.config.habit == "dies" and second:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.habit == "raises" and second:
            raise ValueError("a planted fault")
        if self.config.habit == "starves" and second:
            raise MemoryError("a planted fault")
        if self.config.habit == "waits":
            time.sleep(600)
        if self.config.habit == "stuck" and second:
            raise ValueError("the first rank does not hear of it")
        if self.config.habit == "stuck":
            time.sleep(600)
        count = torch.tensor(train.target_count[1:][ranks.rank() :: ranks.size()].sum())
        run.facts["rows_counted"] = int(ranks.summed(count))
        run.facts["dealt"] = ranks.collected(ranks.mine(list(range(5))))
        run.facts["agreed"] = ranks.agreed(ranks.rank())
        self.order = np.argsort(-train.target_count[1:], kind="stable") + 1

    def recommend(self, queries, k):
        lists = [self.order[:k] for _ in ranks.mine(range(len(queries)))]
        return Ranking(np.array(ranks.collected(lists)))

    def save(self, folder):
        np.save(folder / "order.npy", self.order)

    def load(self, folder, *, device):
        self.order = np.load(folder / "order.npy")
'''


@pytest.fixture
def shared_order(tmp_path):
    """Build an order of one ``shared`` cell, by default of two ranks on the CPU."""
    (tmp_path / "shared.py").write_text(PLUGIN)

    def order(habit="good", ranks=2, **more):
        suite = tmp_path / "suite.yaml"
        row = f"{{method: shared, config: {{habit: {habit}}}}}"
        suite.write_text(f"title: t\ndatasets: [ml_100k]\ntest_rows: 41\nrows: [{row}]\n")
        plugin = str(tmp_path / "shared.py")
        choice = Choice(scale="embedded")
        asked = {"suite": str(suite), "choice": choice, "plugins": [plugin], "gpus": [], "jobs": 1}
        return Order(**{**asked, "gpus_per_cell": ranks, **more})

    return order


def processes(tmp_path):
    """Rank, process and parent of every start, as the cells wrote them."""
    log = tmp_path / "shared.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def left(tmp_path):
    found = []
    for _, pid, _ in processes(tmp_path):
        if psutil.pid_exists(pid):
            found.append(psutil.Process(pid))
    return [process for process in found if is_at_work(process)]


def test_two_ranks_make_the_row_of_one_process(shared_order, store, tmp_path):
    prepared = prepare(shared_order(), store)
    (job,) = prepared.plan.todo
    assert job.ranks == 2
    assert job.cell.key == prepare(shared_order(ranks=1), store).plan.todo[0].cell.key
    (row,) = execute(prepared)
    assert (row.status, row.reason) == ("done", "")
    assert row.provenance["ranks"] == 2
    assert row.facts["rows_counted"] == 8000
    assert (row.facts["dealt"], row.facts["agreed"], row.n) == ([0, 1, 2, 3, 4], 0, 41)
    (_, first, _), (_, second, parent) = sorted(processes(tmp_path))
    assert first != second and parent == first
    assert not left(tmp_path)
    assert not prepare(shared_order(ranks=1), store).plan.todo, "it answers for any number of ranks"


@pytest.mark.parametrize(
    ("habit", "reason", "starts"),
    [
        ("dies", "rank 1 of 2 ended with signal 9 2 times; probably out of memory", 2),
        ("raises", "rank 1 of 2: ValueError: a planted fault", 1),
        ("starves", "rank 1 of 2: out of memory: a planted fault", 1),
        ("stuck", "rank 1 of 2: ValueError: the first rank does not hear of it", 1),
    ],
)
def test_the_fault_of_another_rank_is_told_once_and_ends_all(
    shared_order, store, tmp_path, habit, reason, starts
):
    (row,) = execute(prepare(shared_order(habit), store))
    assert (row.status, row.reason) == ("failed", reason)
    assert sum(rank == 1 for rank, _, _ in processes(tmp_path)) == starts
    wait_for(lambda: not left(tmp_path), seconds=5)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_rank_outlives_its_runner(shared_order, store, tmp_path, how):
    runner = start(shared_order("waits"), store, tmp_path, "--gpus", "none", "--gpus-per-cell", "2")
    wait_for(lambda: len(processes(tmp_path)) == 2)
    assert len(left(tmp_path)) == 2
    kill(runner) if how == signal.SIGKILL else os.kill(runner.pid, how)
    wait_for(lambda: not left(tmp_path), seconds=5)
    runner.wait(timeout=60)


def words(tmp_path):
    return (tmp_path / "habits.log").read_text().split()


def test_a_cell_that_ran_out_of_memory_is_tried_again_alone(bench_order, store, tmp_path):
    order = bench_order("starves, code: 1", "slow", jobs=2, gpus=[])
    rows = {row.cell.config["habit"]: row for row in execute(prepare(order, store))}
    assert [rows[habit].status for habit in ("slow", "starves")] == ["done", "done"]
    assert rows["starves"].facts["attempts"] == 2
    said = words(tmp_path)
    assert sorted(said[:4]) == ["fit", "fit", "recommend", "recommend"]
    assert said[4:] == ["fit", "recommend", "recommend"], "nothing else ran beside the second try"


@pytest.mark.parametrize(("jobs", "fits"), [(1, 1), (2, 2)])
def test_a_cell_that_runs_out_of_memory_alone_has_failed(bench_order, store, tmp_path, jobs, fits):
    (row,) = execute(prepare(bench_order("starves, code: 9", jobs=jobs, gpus=[]), store))
    assert (row.status, row.reason) == ("failed", "out of memory: a planted fault")
    assert words(tmp_path) == ["fit"] * fits
