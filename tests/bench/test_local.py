"""Cells as child processes: which GPU they see, what they load, and what they leave alone."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from bench.api import Order, default_store, execute, prepare
from bench.errors import ConfigError
from bench.execution import places as rooms
from bench.execution.places import places
from bench.experiment.choice import Choice
from bench.experiment.suite import choose_scale

PLUGIN = '''
"""A floor that looks around."""
import os, sys
import numpy as np
from bench.method import Method
from bench.registry import methods
from bench.types import Ranking

@methods.register("nosy")
class Nosy(Method):
    """Items 1, 2, 3 ..., and what its process looks like."""
    family = "floor"
    def fit(self, train, valid, run):
        run.facts["torch"] = "torch" in sys.modules
        run.facts["gpus"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    def recommend(self, queries, k):
        return Ranking(np.tile(np.arange(1, k + 1), (len(queries), 1)))
'''
SCRIPT = """
from bench.api import *
print("once")
order = Order(suite={suite!r}, choice=Choice(scale="embedded"), plugins=[{plugin!r}])
print([row.status for row in execute(prepare(order, default_store({out!r}, {run!r})))])
"""


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are GPUs of so many GiB, and that so many of them are visible."""

    def pretend(*gib, visible=None):
        monkeypatch.setattr("bench.results.machine.gpu_memory_gib", lambda: gib)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return pretend


@pytest.mark.parametrize(
    ("visible", "asked", "names"),
    [
        (None, None, ["0", "1", "2", "3"]),
        (None, [2, 0, 2], ["2", "0"]),
        ("3,1", None, ["3", "1"]),
        ("3,1", [1], ["1"]),
        ("GPU-ab12", None, ["GPU-ab12"]),
        ("2,-1,0", None, ["2"]),
        ("0,0", None, ["0"]),
        ("", None, []),
        (None, [], []),
    ],
)
def test_the_gpus_are_those_that_this_process_may_use(gpus, visible, asked, names):
    gpus(80.0, 80.0, 80.0, 80.0, visible=visible)
    assert list(places(None, asked).gpus) == names


def test_a_wrong_number_is_one_line_that_names_what_is_allowed(gpus):
    gpus(80.0, 80.0)
    with pytest.raises(
        ConfigError, match="--gpus 5: there is no such GPU; allowed are 0, 1, or none"
    ):
        places(None, [5])
    with pytest.raises(ConfigError, match="--jobs 0: it must be 1 or more"):
        places(0)
    gpus()
    with pytest.raises(ConfigError, match="no GPU was found"):
        prepare(Order(suite="smoke", gpus=[0]))


def test_scale_auto_looks_at_the_gpus_of_the_run(gpus):
    gpus(80.0, 24.0)
    assert choose_scale("auto")[0] == "full"
    assert choose_scale("auto", [1])[0] == "small"
    assert choose_scale("auto", []) == (
        "embedded", "no GPU is to be used; --scale small or full overrides",
    )  # fmt: skip
    gpus(80.0, 24.0, visible="")
    assert choose_scale("auto")[0] == "embedded"


@pytest.fixture
def nosy(tmp_path):
    (tmp_path / "nosy.py").write_text(PLUGIN)
    suite = tmp_path / "suite.yaml"
    suite.write_text("title: t\ndatasets: [ml_100k]\ntest_rows: 20\nrows: [{method: nosy}]\n")
    return {"suite": str(suite), "plugin": str(tmp_path / "nosy.py")}


def test_a_floor_loads_no_torch_and_sees_no_gpu(nosy, tmp_path):
    order = Order(
        suite=nosy["suite"], choice=Choice(scale="embedded"), plugins=[nosy["plugin"]], gpus=[]
    )
    (row,) = execute(prepare(order, default_store(tmp_path / "out", tmp_path / "run")))
    assert row.status == "done", row.reason
    assert (row.facts["torch"], row.facts["gpus"]) == (False, "")


def test_a_script_without_a_main_guard_is_not_run_again_in_a_cell(nosy, tmp_path):
    script = tmp_path / "go.py"
    places = {"out": str(tmp_path / "out"), "run": str(tmp_path / "run")}
    script.write_text(SCRIPT.format(**nosy, **places))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["once", "['done']"], done.stderr
    (log,) = (tmp_path / "run").rglob("log.txt")
    assert "once" not in log.read_text()


@pytest.mark.parametrize(
    ("cores", "gib", "cells", "threads"),
    [(1, 64, 1, 1), (2, 24, 2, 1), (2, 8, 1, 2), (16, 256, 8, 2)],
)
def test_without_a_gpu_cells_are_packed_as_cores_and_memory_allow(
    cores, gib, cells, threads, monkeypatch
):
    memory = SimpleNamespace(available=gib * 2**30)
    monkeypatch.setattr(rooms.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(rooms.os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    here = places(None, [])
    assert (here.most, here.threads) == (cells, threads)
