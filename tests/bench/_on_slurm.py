"""Runs whose cells are jobs of the Slurm cluster of the tests."""

import json
import subprocess
import time

from bench.api import execute, prepare
from bench.execution.slurm import SlurmExecutor
from bench.execution.slurm_words import read_words

JOB = "partition=debug,time=10,cpus=1"
ON_SLURM = ("--executor", "slurm", "--slurm", JOB)


def run(order, store, act=lambda handle: None, words=JOB):
    """Run an order on the cluster; ``act`` is called with every job, again and again."""
    end = time.monotonic() + 180

    def notify(progress):
        assert time.monotonic() < end, [(h.job, h.note) for h in progress.running]
        for handle in progress.running:
            act(handle)
            if "BeginTime" in handle.note:  # Slurm lets a job wait two minutes that it put back
                subprocess.run(["scontrol", "update", f"jobid={handle.job}", "starttime=now"])

    executor = SlurmExecutor(read_words(words), store)
    return execute(prepare(order, store), notify=notify, executor=executor)


def once(store, act):
    """Do something to the first job that has begun its fit."""
    done = []

    def when_it_fits(handle):
        status = store.folder(handle.cell.key) / "status.json"
        if not done and status.exists() and json.loads(status.read_text())["phase"] == "fit":
            done.append(handle.job)
            act(handle.job)

    return when_it_fits, done


def habits(tmp_path):
    """What the cells of a folder did, word for word."""
    log = tmp_path / "habits.log"
    return log.read_text().split() if log.exists() else []
