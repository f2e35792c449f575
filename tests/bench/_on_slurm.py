"""Runs whose cells are jobs of the Slurm cluster of the tests."""

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


def once(tmp_path, act, starts=2):
    """Do something to the first job that is in its fit; ``waits`` goes on after so many starts of a fit.

    A cell that waits cannot end before what is done to it has come about, however slow the cluster is.
    """
    done = []

    def when_it_fits(handle):
        fits = habits(tmp_path).count("fit")
        if fits and not done:
            done.append(handle.job)
            act(handle.job)
        if fits >= starts:
            (tmp_path / "go").touch()

    return when_it_fits, done


def habits(tmp_path):
    """What the cells of a folder did, word for word."""
    log = tmp_path / "habits.log"
    return log.read_text().split() if log.exists() else []
