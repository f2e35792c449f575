"""Cells as Slurm jobs; the store must be on a file system that the nodes share.

Slurm is asked by its own commands rather than through submitit, which learns of a job's end from ``sacct``
alone: on a cluster without accounting a job that dies is waited for without end. Nor can submitit find the
jobs of a runner that was killed. squeue forgets a job some minutes after its end; how such a job ended is
asked of sacct, and where that does not answer the row alone decides.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.cell import Cell
from bench.errors import Unavailable
from bench.execution.asking import Ask
from bench.execution.job import script, take_word
from bench.execution.process import End, Kind, died
from bench.execution.slurm_commands import (
    ALIVE,
    GOING,
    WAITING,
    NotNow,
    State,
    cancel,
    look,
    recall,
    submit,
)
from bench.execution.slurm_words import Queue
from bench.execution.work import Surroundings
from bench.results.store import Store

POLL_SECONDS = 2.0  # between two questions to squeue, at least
SETTLE_SECONDS = 30.0  # until the row of a job that ended well is seen on a shared file system
SHUT_SECONDS = 15.0  # until another job is submitted when one was not taken
PATIENCE_SECONDS = 600.0  # of a cluster that does not answer
AGAIN_SECONDS = 60.0  # until sacct is asked again when it did not answer
MOST_RESTARTS = 20  # of one job, by Slurm itself
HINTS = {"TIMEOUT": "raise time= of --slurm", "OUT_OF_MEMORY": "raise mem= of --slurm"}
LOST = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"})


@dataclass
class SlurmHandle:
    """A submitted cell; its clock starts when the job does, so waiting in the queue is not charged."""

    cell: Cell
    where: Surroundings
    job: str
    executor: SlurmExecutor
    held: contextlib.ExitStack
    started: float | None = None
    note: str = "queued"
    _looked: float = field(default_factory=time.monotonic, repr=False)
    _gone: float | None = field(default=None, repr=False)

    def end(self) -> End | None:
        """How the job ended; None while it waits or runs."""
        looked = self.executor.refresh()
        if looked <= self._looked:
            return None
        self._looked = looked
        seen = self.where.seen
        if seen is not None and self.where.store.answered_since(self.cell, seen):
            return End("over")
        if silence := self.executor.silence:
            self.note = f"Slurm does not answer: {silence}"
            return None
        state = self.executor.states.get(self.job)
        if state is None or state.name not in GOING:
            return self._ended(state)
        return self._follow(state)

    def _follow(self, state: State) -> End | None:
        self.note = ""
        if state.name in WAITING:
            reason = "" if state.reason == "None" else f": {state.reason}"
            self.started, self.note = None, f"{state.name.lower()}{reason}"
        elif self.started is None:
            self.started = time.monotonic() - state.seconds
        if "launch failed" in state.reason.replace("_", " "):
            self.kill()
            return End("lost", f"job {self.job} could not be launched on its node")
        if state.restarts > MOST_RESTARTS:
            self.kill()
            return End("lost", f"job {self.job} was put back {state.restarts} times by Slurm")
        return None

    def _ended(self, state: State | None) -> End | None:
        if word := take_word(self.where.store, self.job):
            return word
        if state is None or (state.name == "COMPLETED" and not state.code):
            self._gone = self._gone or time.monotonic()
            if time.monotonic() - self._gone < SETTLE_SECONDS:
                return None
            return End("died", f"job {self.job} ended without a word")
        if state.name == "FAILED" and state.code:
            return died(f"job {self.job}", state.code)
        what = "was cancelled" if state.name.startswith("CANCELLED") else f"ended as {state.name}"
        kind: Kind = "lost" if state.name in LOST else "died"
        return End(kind, f"job {self.job} {what}", HINTS.get(state.name, ""))

    def kill(self) -> None:
        """Cancel the job."""
        with contextlib.suppress(NotNow):
            cancel([self.job])


class SlurmExecutor:
    """Submits each cell as a job of its own, or finds the job that a killed runner left.

    Args:
        queue: how jobs are asked for.
        store: whose cells they are.

    Raises:
        Unavailable: this machine is in no cluster.
    """

    def __init__(self, queue: Queue, store: Store) -> None:
        self.queue, self.store = queue, store
        self.jobs: dict[str, str] = {}  # names of the submitted jobs by id
        self.folder = store.root / "slurm"
        self.states: dict[str, State] = {}
        self.silence = ""
        self._prefix = f"bench-{hashlib.sha256(str(store.root).encode()).hexdigest()[:6]}-"
        self._looked = self._next = self._heard = self._shut_until = time.monotonic()
        self._recall_at = self._looked
        with contextlib.suppress(NotNow):  # it may be back before the first cell is ready
            self.tidy()

    @property
    def has_room(self) -> bool:
        """Whether another job may be submitted."""
        return len(self.jobs) < self.queue.at_once and time.monotonic() >= self._shut_until

    def fits(self, ask: Ask) -> bool:
        """Always: a job is given what --slurm names, or waits for it in the queue."""
        return True

    def is_left(self, cell: Cell) -> bool:
        """Whether an earlier runner, or an sbatch that gave no answer, may have left a job of the cell."""
        return self._record(cell).exists()

    def start(self, cell: Cell, where: Surroundings) -> SlurmHandle | None:
        """Submit a cell; None if another runner has it in the queue or Slurm takes no job at present."""
        held = contextlib.ExitStack()
        if not held.enter_context(where.store.claim(f"{cell.key}.queue")):
            held.close()
            return None
        threads = max(int(self.queue.words["cpus"]) // where.ask.ranks, 1)
        where = replace(where, threads=threads, device=self.queue.device)
        try:
            job = self._find(cell) or self._submit(cell, where)
        except NotNow as fault:
            held.close()
            self._shut_until = time.monotonic() + SHUT_SECONDS
            self._hear(str(fault))
            return None
        except BaseException:
            held.close()
            raise
        self.jobs[job] = self._name(cell)
        return SlurmHandle(cell, where, job, self, held)

    def _name(self, cell: Cell) -> str:
        return f"{self._prefix}{cell.key}"

    def _record(self, cell: Cell) -> Path:
        """A file that is there from before a job is submitted until its end was seen."""
        return self.folder / cell.key

    def _find(self, cell: Cell) -> str | None:
        if not self.is_left(cell):
            return None
        alive = [job for job, state in look(self._name(cell)).items() if state.name in ALIVE]
        return alive[-1] if alive else None

    def _submit(self, cell: Cell, where: Surroundings) -> str:
        log = where.store.folder(cell.key) / "log.txt"
        for folder in (self.folder, log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        output = str(log).replace("%", "%%")
        fixed = ["--ntasks=1", "--requeue", "--export=ALL", "--open-mode=append"]
        named = [f"--job-name={self._name(cell)}", f"--output={output}"]
        self._record(cell).touch()
        try:
            return submit([*fixed, *named, *self.queue.options], script(cell, where))
        except Unavailable:
            self._forget(cell)
            raise

    def refresh(self) -> float:
        """Ask squeue unless it was asked just now; returns when it was asked last."""
        if time.monotonic() < self._next:
            return self._looked
        began = time.monotonic()
        try:
            self.states = look()
            self._hear("")
            self._recall()
        except NotNow as fault:
            self._hear(str(fault))
        self._looked, took = began, time.monotonic() - began
        self._next = time.monotonic() + min(max(POLL_SECONDS, 20 * took), 15 * POLL_SECONDS)
        return self._looked

    def _recall(self) -> None:
        """Ask sacct how jobs ended that squeue has forgotten."""
        forgotten = {job: name for job, name in self.jobs.items() if job not in self.states}
        if forgotten and time.monotonic() >= self._recall_at:
            try:
                self.states |= recall(forgotten)
            except NotNow:
                self._recall_at = time.monotonic() + AGAIN_SECONDS

    def _hear(self, silence: str) -> None:
        self.silence = silence
        if not silence:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > PATIENCE_SECONDS:
            raise Unavailable(
                f"--executor slurm: no answer for {PATIENCE_SECONDS / 60:.0f} minutes ({silence}); "
                "start the same command when the cluster is back, it finds the jobs that are left"
            )

    def finish(self, handle: SlurmHandle) -> None:
        """Forget a finished job."""
        self.jobs.pop(handle.job, None)
        take_word(handle.where.store, handle.job)
        self._forget(handle.cell)
        handle.held.close()

    def tidy(self) -> None:
        """Remove what killed runners left of jobs that are over.

        Raises:
            NotNow: the cluster does not answer.
        """
        alive = {job: state.job_name for job, state in look().items() if state.name in GOING}
        for path in self.folder.glob("*"):
            key = path.name
            with self.store.claim(f"{key}.queue") as free:
                gone = path.stem not in alive and f"{self._prefix}{key}" not in alive.values()
                if free and gone:
                    path.unlink(missing_ok=True)
        self._leave()

    def _forget(self, cell: Cell) -> None:
        self._record(cell).unlink(missing_ok=True)
        self._leave()

    def _leave(self) -> None:
        with contextlib.suppress(OSError):  # others are still in it
            self.folder.rmdir()

    def stop(self, handles: Sequence[SlurmHandle]) -> None:
        """Cancel every job that is left, in one question, and say so."""
        if not handles:
            return
        jobs = [handle.job for handle in handles]
        try:
            cancel(jobs)
        except NotNow as fault:
            print(
                f"could not cancel the Slurm jobs ({fault}); `scancel {' '.join(jobs)}` ends them. "
                "Left alone they go on, and the same command finds them",
                file=sys.stderr,
            )
            return
        for handle in handles:
            self.finish(handle)
        print(f"cancelled {len(jobs)} Slurm job(s): {', '.join(jobs)}", file=sys.stderr)
