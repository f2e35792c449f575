"""A plugin whose methods misbehave as asked, and runners of it as processes of their own."""

import signal
import subprocess
import sys
import time

from bench.api import Order
from bench.experiment.choice import Choice

PLUGIN = '''
"""Methods that misbehave."""
import os, signal, time
from pathlib import Path
import numpy as np
from bench.cell import Need
from bench.config import Config
from bench.errors import Unavailable
from bench.method import Method
from bench.registry import methods
from bench.types import Ranking

class HabitConfig(Config):
    habit: str = "good"
    epochs: int = 3
    code: int = 75

def log(word):
    with Path(__file__).with_name("habits.log").open("a") as lines:
        lines.write(word + "\\n")

@methods.register("habit")
class Habit(Method):
    """Does what its configuration says, one epoch at a time, with a checkpoint."""
    family = "floor"  # whose cells load no torch
    Config = HabitConfig

    @classmethod
    def needs(cls, config, *, loss, backbone):
        if config.habit == "needs a failure":
            return {"other": Need(method="habit", config={"habit": "raises"})}
        if config.habit == "needs twice":
            via = Need(method="habit", config={"habit": "needs"})
            return {"other": Need(method="habit"), "via": via}
        return {"other": Need(method="habit")} if config.habit == "needs" else {}

    def fit(self, train, valid, run):
        log("fit")
        while self.config.habit == "waits" and not Path(__file__).with_name("go").exists():
            time.sleep(0.05)
        if self.config.habit == "raises":
            raise ValueError("a planted fault | with a pipe\\nand a second line")
        if self.config.habit == "starves":
            tried = run.folder / "tried.txt"
            tries = len(tried.read_text()) if tried.exists() else 0
            tried.write_text("x" * (tries + 1))
            if tries < self.config.code:
                raise MemoryError("a planted fault")
        if self.config.habit == "unavailable":
            raise Unavailable("needs a machine that nobody has")
        if self.config.habit == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.habit == "exits":
            os._exit(self.config.code)
        if self.config.habit == "holds":
            sum(range(10**11))  # one call that lets no other thread run
        if self.config.habit == "hangs":
            time.sleep(600)
        if self.config.habit == "needs":
            assert run.load("other").order.shape == (train.n_items,)
        mark = run.folder / "epochs.txt"
        done = int(mark.read_text()) if mark.exists() else 0
        for epoch in range(done, self.config.epochs):
            time.sleep(0.4 if self.config.habit == "slow" else 0.0)
            part = mark.with_suffix(".part")
            part.write_text(str(epoch + 1))
            part.replace(mark)
            run.progress(epoch + 1, self.config.epochs)
        run.facts["resumed_from"] = done
        self.order = np.random.default_rng(run.seed_for("order")).permutation(train.n_items) + 1

    def recommend(self, queries, k):
        log("recommend")
        return Ranking(np.tile(self.order[:k], (len(queries), 1)))

    def save(self, folder):
        np.save(folder / "order.npy", self.order)

    def load(self, folder, *, device):
        self.order = np.load(folder / "order.npy")
'''

SCRIPT = """
import sys
from bench.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def order_in(folder):
    """What builds an order of ``habit`` cells in a folder."""
    plugin = folder / "habit.py"
    plugin.write_text(PLUGIN)

    def order(*habits, limit=None, **more):
        rows = "\n".join(f"  - {{method: habit, config: {{habit: {h}}}}}" for h in habits)
        suite = folder / "suite.yaml"
        suite.write_text(f"title: t\ndatasets: [ml_100k]\ntest_rows: 40\nrows:\n{rows}\n")
        choice = Choice(scale="embedded")
        return Order(
            suite=str(suite), choice=choice, plugins=[str(plugin)], limit_seconds=limit, **more
        )

    return order


def start(order, store, tmp_path, *more):
    """A runner of an order; what it says goes to the file ``said``."""
    script = tmp_path / "go.py"
    script.write_text(SCRIPT)
    words = ["run", "--suite", order.suite, "--scale", "embedded", "--plugin", order.plugins[0]]
    where = ["--out", str(store.rows.parent), "--store", str(store.root), *more]
    said = tmp_path / f"said-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-u", str(script), *words, *where],
        start_new_session=True,
        # a shell that runs the tests in its background has SIGINT ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=said.open("w"),
        stderr=subprocess.STDOUT,
    )
    process.said = said
    return process


def wait_for(condition, seconds=90):
    """What the condition comes to, once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found
