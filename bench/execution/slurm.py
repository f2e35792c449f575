"""Cells as Slurm jobs, through submitit; the store must be on a file system that the nodes share."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.cell import Cell
from bench.errors import ConfigError, Unavailable
from bench.execution.local import BUSY
from bench.execution.runner import Surroundings, run_cell

LOST = -1  # exit code of a job that Slurm ended: node failure, preemption, memory
# words of --slurm, as submitit calls them; time is in minutes
WORDS = {
    "partition": "slurm_partition",
    "time": "timeout_min",
    "cpus": "cpus_per_task",
    "gpus": "gpus_per_node",
    "mem": "slurm_mem",
    "at_once": "at_once",
}
LEAST = {"time": 1, "cpus": 1, "gpus": 0, "at_once": 1}  # of those that are whole numbers


@dataclass
class SlurmHandle:
    """A submitted cell; its clock starts when the job does, so waiting in the queue is not charged."""

    cell: Cell
    job: Any
    started: float = field(default=float("inf"))
    why: str = ""

    def exit_code(self) -> int | None:
        """None while it waits or runs; LOST if it ended without a result."""
        if not self.job.done():
            if self.started == float("inf") and self.job.state == "RUNNING":
                self.started = time.monotonic()
            return None
        if fault := self.job.exception():
            lines = str(fault).strip().splitlines() or [type(fault).__name__]
            self.why = f"job {self.job.job_id} lost ({self.job.state}): {lines[-1]}"[:300]
            return LOST
        return int(self.job.result())

    def kill(self) -> None:
        """Cancel the job."""
        self.job.cancel()


@dataclass(frozen=True)
class Queue:
    """How jobs are asked for.

    Attributes:
        parameters: submitit parameters (``slurm_partition``, ``timeout_min``, ``gpus_per_node`` ...).
        at_once: most jobs in the queue at a time.
    """

    parameters: dict[str, Any]
    at_once: int = 64

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``, where the jobs run."""
        return "cuda" if self.parameters.get("gpus_per_node") else "cpu"

    def executor(self, folder: Path) -> SlurmExecutor:
        """An executor whose job scripts and logs go to ``folder``.

        Raises:
            Unavailable: submitit is not installed, or this machine is in no cluster.
        """
        return SlurmExecutor(folder, self.parameters, self.at_once)


def read_words(words: str) -> Queue:
    """Read ``partition=gpu,time=240,cpus=8,gpus=1,mem=32GB,at_once=16``.

    Raises:
        ConfigError: a word that is not understood.
    """
    found: dict[str, Any] = {"time": 240, "cpus": 1, "at_once": 64}
    for word in filter(None, map(str.strip, words.split(","))):
        name, _, value = map(str.strip, word.partition("="))
        if name not in WORDS or not value:
            known = ", ".join(WORDS)
            raise ConfigError(f"--slurm does not know {word!r}; it knows {known}, as name=value")
        found[name] = _whole(word, value, LEAST[name]) if name in LEAST else value
    at_once = found.pop("at_once")
    return Queue({"name": "bench", **{WORDS[n]: v for n, v in found.items()}}, at_once)


def _whole(word: str, value: str, least: int) -> int:
    if not (value.isdecimal() and int(value) >= least):
        raise ConfigError(f"--slurm {word}: it must be a whole number from {least} up")
    return int(value)


class SlurmExecutor:
    """Submits each cell as a job of its own.

    Args:
        folder: where job scripts and logs go.
        parameters: submitit parameters (``slurm_partition``, ``timeout_min``, ``gpus_per_node`` ...).
        at_once: most jobs in the queue at a time.
        cluster: submitit's name of the queue; ``local`` runs the same jobs as plain processes.
    """

    def __init__(
        self,
        folder: Path,
        parameters: dict[str, Any],
        at_once: int = 64,
        cluster: str = "slurm",
    ) -> None:
        try:
            import submitit
        except ImportError as fault:
            raise Unavailable("--executor slurm needs submitit: pip install -e .[slurm]") from fault
        try:
            self.submitter = submitit.AutoExecutor(folder=str(folder / "slurm"), cluster=cluster)
        except RuntimeError as fault:
            raise Unavailable(
                f"--executor slurm: {fault} Run it on a node of the cluster, or leave it out"
            ) from fault
        self.submitter.update_parameters(**parameters)
        self.device = "cuda" if parameters.get("gpus_per_node") else "cpu"
        self.threads = int(parameters.get("cpus_per_task", 1))
        self.at_once, self.queued = at_once, 0

    @property
    def has_room(self) -> bool:
        """Whether another job may be submitted."""
        return self.queued < self.at_once

    def start(self, cell: Cell, where: Surroundings) -> SlurmHandle:
        """Submit a cell."""
        self.queued += 1
        where = replace(where, threads=self.threads, device=self.device)
        return SlurmHandle(cell, self.submitter.submit(_job, cell, where))

    def finish(self, handle: SlurmHandle) -> None:
        """Forget a finished job."""
        self.queued -= 1


def _job(cell: Cell, where: Surroundings) -> int:
    """Body of a job."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with where.store.claim(cell.key) as held:
        if not held:
            return BUSY
        run_cell(cell, where)
    return 0
