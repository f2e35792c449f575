"""Runs a plan: starts what is ready, watches limits, retries what the machine broke, never loses a cell."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from bench.cell import Cell, Row
from bench.executors.local import BUSY
from bench.plan import Job, Plan
from bench.provenance import provenance
from bench.registry import methods
from bench.runner import Surroundings
from bench.store import Store

POLL_SECONDS = 0.1
RETRIES = 1  # of infrastructure failures: a kill from outside, a lost node


class Handle(Protocol):
    """A running cell, wherever it runs."""

    cell: Cell
    started: float

    def exit_code(self) -> int | None:
        """None while it runs."""

    def kill(self) -> None:
        """End it."""


class Executor(Protocol):
    """A way to start cells."""

    @property
    def has_room(self) -> bool:
        """Whether another cell can start now."""

    def start(self, cell: Cell, where: Surroundings) -> Any:
        """Start a cell and return its handle."""

    def finish(self, handle: Any) -> None:
        """Take back what the handle held."""


@dataclass
class Progress:
    """State of a run for whoever shows it.

    Attributes:
        waiting, running, rows: jobs not started, handles, and the rows written so far in this run.
    """

    waiting: list[Job]
    running: list[Any] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    predicted: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)


@dataclass
class Schedule:
    """One run of a plan.

    Args:
        plan: what to run.
        where: store, data and plugins; needs are filled in per cell.
        executor: how cells are started.
        limit_seconds: longest life of one cell, None for no limit.
        any_code: whether artefacts of older code may be consumed.
        notify: called after every change and at least a few times a second.
    """

    plan: Plan
    where: Surroundings
    executor: Executor
    limit_seconds: float | None = None
    any_code: bool = False
    notify: Callable[[Progress], None] = lambda progress: None
    attempts: Counter[str] = field(default_factory=Counter)

    @property
    def store(self) -> Store:
        """Where rows go."""
        return self.where.store

    def run(self) -> list[Row]:
        """Run everything; returns the rows in the order they were finished.

        An interrupt ends the running cells and is passed on; the store stays whole.
        """
        progress = Progress(list(self.plan.todo))
        progress.predicted = {job.cell.key: job.seconds for job in self.plan.jobs}
        try:
            for cell, reason in self.plan.left_out:
                self._note(progress, cell, "left out", reason)
            while progress.waiting or progress.running:
                self._start_ready(progress)
                self._collect(progress)
                self.notify(progress)
                time.sleep(POLL_SECONDS)
        finally:
            for handle in progress.running:
                handle.kill()
        return progress.rows

    def _start_ready(self, progress: Progress) -> None:
        busy = {handle.cell.key for handle in progress.running}
        open_keys = busy | {job.cell.key for job in progress.waiting}
        for job in list(progress.waiting):
            if not self.executor.has_room:
                return
            if open_keys & set(job.cell.needs.values()):
                continue
            progress.waiting.remove(job)
            if not self._start(progress, job):
                open_keys.discard(job.cell.key)

    def _start(self, progress: Progress, job: Job) -> bool:
        needs = {}
        cells = {other.cell.key: other.cell for other in self.plan.jobs}
        for name, key in job.cell.needs.items():
            artefact = self.store.artefact(cells[key], any_code=self.any_code)
            if artefact is None:
                row = self.store.read(cells[key])
                why = row.reason if row else "it left nothing behind"
                status = "left out" if row and row.status == "left out" else "failed"
                self._note(progress, job.cell, status, f"needs {cells[key].label}: {why}")
                return False
            needs[name] = artefact
        self.attempts[job.cell.key] += 1
        progress.running.append(self.executor.start(job.cell, replace(self.where, needs=needs)))
        return True

    def _collect(self, progress: Progress) -> None:
        for handle in list(progress.running):
            code = handle.exit_code()
            age = time.monotonic() - handle.started
            if code is None and (self.limit_seconds is None or age < self.limit_seconds):
                continue
            progress.running.remove(handle)
            if code is None:
                handle.kill()
                reason = f"ran past the limit of {self.limit_seconds:.0f} s and was ended"
                self._note(progress, handle.cell, "failed", reason)
            else:
                self._settle(progress, handle.cell, code)
            self.executor.finish(handle)

    def _settle(self, progress: Progress, cell: Cell, code: int) -> None:
        """Read what an ended process left, or decide what its silence means."""
        row = self.store.read(cell)
        if code == 0 and row is not None and row.cell.key == cell.key:
            progress.rows.append(row)
        elif code == BUSY:
            self._requeue(progress, cell)
            self.attempts[cell.key] -= 1
        elif self.attempts[cell.key] <= RETRIES:
            self._requeue(progress, cell)
        else:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            hint = "; probably out of memory" if code == -9 else ""
            reason = f"its process ended with {how} {self.attempts[cell.key]} times{hint}"
            self._note(progress, cell, "failed", reason)

    def _requeue(self, progress: Progress, cell: Cell) -> None:
        """Put a cell back at the end, unless another runner has answered it meanwhile."""
        if self.store.look(cell) == "done":
            row = self.store.read(cell)
            assert row is not None, "a hit has a row"
            progress.rows.append(row)
            return
        job = next(job for job in self.plan.jobs if job.cell.key == cell.key)
        progress.waiting.append(job)

    def _note(self, progress: Progress, cell: Cell, status: Any, reason: str) -> None:
        """Put a cell on the board that left no row of its own."""
        family = str(methods.get(cell.method).family) if cell.method in methods else "not built"
        old = self.store.read(cell)
        if old is not None and old.cell.key == cell.key and old.reason == reason:
            progress.rows.append(old)
            return
        if not cell.data_version and any(r.cell.data_version for r in self.store.namesakes(cell)):
            return  # another machine has answered it: what is missing here takes nothing away
        place = provenance(threads=self.where.threads, device=self.where.device)
        row = Row(
            cell=cell, status=status, reason=reason, facts={"family": family}, provenance=place
        )
        self.store.write(row, stage=family == "stage")
        progress.rows.append(row)


def summary(rows: list[Row]) -> Iterator[str]:
    """One line per outcome, e.g. ``done 12``."""
    for status, count in sorted(Counter(row.status for row in rows).items()):
        yield f"{status} {count}"
