"""Runs a plan: starts what is ready, watches limits, retries what the machine broke, never loses a cell."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from bench.cell import Cell, Row
from bench.errors import StorageError
from bench.execution.asking import Alone, Ask
from bench.execution.process import End, Kind
from bench.execution.work import Surroundings
from bench.experiment.plan import Job, Plan
from bench.registry import methods
from bench.results.provenance import provenance
from bench.results.store import Store

POLL_SECONDS = 0.1
LEAST_LIMIT, LIMIT_FACTOR = 3600.0, 10.0  # seconds; times the predicted duration of a cell
# starts of a cell that all came to the same end, after which it is given up
MOST: dict[Kind, int] = {"died": 2, "memory": 3, "fault": 1, "lost": 5, "busy": 20, "damaged": 5}
KILL_SECONDS = 45.0  # until a queue has ended the job it was asked to end
BUSY_SECONDS = 5.0  # before a cell that another runner holds is asked for again


class Handle(Protocol):
    """A running cell, wherever it runs."""

    cell: Cell
    started: float | None  # None while it waits in a queue
    note: str  # what there is to say of a cell that has not started

    def end(self) -> End | None:
        """How it ended; None while it waits or runs."""

    def kill(self) -> None:
        """End it."""


class Executor(Protocol):
    """A way to start cells."""

    @property
    def has_room(self) -> bool:
        """Whether some cell may be able to start now."""

    def fits(self, ask: Ask) -> bool:
        """Whether a cell that asks for this can start now."""

    def is_left(self, cell: Cell) -> bool:
        """Whether an earlier runner may have left the cell at work; ``start`` then takes it up."""

    def start(self, cell: Cell, where: Surroundings) -> Any:
        """Start a cell and return its handle; None if it cannot be started at present."""

    def finish(self, handle: Any) -> None:
        """Take back what the handle of an ended cell held."""

    def stop(self, handles: Sequence[Any]) -> None:
        """End cells before their time."""


@dataclass
class Progress:
    """State of a run for whoever shows it.

    Attributes:
        waiting, running, rows: jobs not started, handles, and the rows written so far in this run.
        said: a line for each damaged artefact that was set aside, to be made again.
    """

    waiting: list[Job]
    running: list[Any] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    predicted: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)


@dataclass
class Schedule:
    """One run of a plan.

    Args:
        plan: what to run.
        where: store, data and plugins; needs are filled in per cell.
        executor: how cells are started.
        limit_seconds: longest life of one cell; None for ten times what is expected, an hour at least.
        any_version: whether artefacts of other versions may be consumed.
        notify: called after every change and at least a few times a second.
    """

    plan: Plan
    where: Surroundings
    executor: Executor
    limit_seconds: float | None = None
    any_version: bool = False
    notify: Callable[[Progress], None] = lambda progress: None
    _tries: Counter[tuple[str, Kind]] = field(default_factory=Counter, repr=False)
    _alone: dict[str, Alone] = field(default_factory=dict, repr=False)
    _begun: set[str] = field(default_factory=set, repr=False)
    _jobs: dict[str, Job] = field(default_factory=dict, repr=False)
    _not_before: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def store(self) -> Store:
        """Where rows go."""
        return self.where.store

    def run(self) -> list[Row]:
        """Run everything; returns the rows in the order they were finished.

        An interrupt ends the running cells and is passed on; the store stays whole.
        """
        progress = Progress(list(self.plan.todo))
        self._jobs = {job.cell.key: job for job in self.plan.jobs}
        progress.predicted = {key: job.seconds for key, job in self._jobs.items()}
        try:
            for cell, reason in self.plan.left_out:
                self._note(progress, cell, "left out", reason)
            while progress.waiting or progress.running:
                self._start_ready(progress)
                ended = self._collect(progress)
                self.notify(progress)
                time.sleep(0.0 if ended else POLL_SECONDS)
        finally:
            self.executor.stop(progress.running)
        return progress.rows

    def _start_ready(self, progress: Progress) -> None:
        busy = {self._jobs[handle.cell.key].cell.key for handle in progress.running}
        open_keys = busy | {job.cell.key for job in progress.waiting}
        for job in list(progress.waiting):
            if not self.executor.has_room:
                return
            early = time.monotonic() < self._not_before.get(job.cell.key, 0.0)
            if early or open_keys & set(job.cell.needs.values()):
                continue
            # a cell that needs more than is free lets others pass; they are few enough to end
            if not self.executor.fits(self._ask(job)):
                continue
            progress.waiting.remove(job)
            if not self._start(progress, job) and job not in progress.waiting:
                open_keys.discard(job.cell.key)

    def _ask(self, job: Job) -> Ask:
        return Ask(job.ranks, job.gpu_bytes, self._alone.get(job.cell.key, ""))

    def _start(self, progress: Progress, job: Job) -> bool:
        needs = self._inputs(progress, job)
        if needs is None:
            return False
        # an artefact of older code has another key, and the row must say which one it rests on
        cell = replace(job.cell, needs={name: path.parent.name for name, path in needs.items()})
        if cell.key not in self._jobs:
            self._jobs[cell.key] = replace(job, seen=self.store.stamp(cell.key))
            progress.predicted[cell.key] = job.seconds
        if row := self._answer(cell):
            progress.rows.append(row)
            return False
        with self.store.claim(cell.key) as free:
            pass  # a process, or a queued job, only to learn that another runner holds it is too much
        if not free and not self.executor.is_left(cell):
            self._requeue(progress, cell)
            return False
        where = replace(
            self.where,
            needs=needs,
            seen=self._jobs[cell.key].seen,
            ask=self._ask(job),
            fresh=self.where.fresh and cell.key not in self._begun,
            predicted=job.forecast.interval,
        )
        handle = self.executor.start(cell, where)
        if handle is None:
            self._requeue(progress, cell)
            return False
        self._begun.add(cell.key)
        progress.running.append(handle)
        return True

    def _inputs(self, progress: Progress, job: Job) -> dict[str, Path] | None:
        """Folders of what a job consumes; None, and a note on the board, if one is missing."""
        found = {}
        for name, key in job.cell.needs.items():
            need = self._jobs[key].cell
            artefact = self.store.artefact(need, any_version=self.any_version)
            if artefact is None:
                row = self.store.read(need)
                why = row.reason if row else "it left nothing behind"
                status = "left out" if row and row.status == "left out" else "failed"
                self._note(progress, job.cell, status, f"needs {need.name}: {why}")
                return None
            found[name] = artefact
        return found

    def _answer(self, cell: Cell) -> Row | None:
        """The row, if somebody answered the cell since the plan was made; older rows do not count."""
        job = self._jobs.get(cell.key)
        return self.store.answered_since(cell, job.seen) if job else None

    def _collect(self, progress: Progress) -> bool:
        """Settle what has ended; whether anything has, and left room."""
        running = len(progress.running)
        for handle in list(progress.running):
            end = handle.end()
            age = 0.0 if handle.started is None else time.monotonic() - handle.started
            limit = self._limit(handle.cell)
            if end is None and age < limit:
                continue
            progress.running.remove(handle)
            if end is None:
                handle.kill()
                reason = f"ran past the limit of {limit:.0f} s and was ended"
                self._note(progress, handle.cell, "failed", reason, patience=KILL_SECONDS)
            else:
                self._settle(progress, handle.cell, end)
            self.executor.finish(handle)
        return len(progress.running) < running

    def _limit(self, cell: Cell) -> float:
        if self.limit_seconds is not None:
            return self.limit_seconds
        job = self._jobs[cell.key]
        # a row of the same kind may have been quick for a reason; a limit must not rest on it alone
        return max(LEAST_LIMIT, LIMIT_FACTOR * max(job.seconds, job.guess))

    def _settle(self, progress: Progress, cell: Cell, end: End) -> None:
        """Take the row that an ended process left, or decide what its silence means."""
        progress.said += end.said
        if end.kind == "storage":
            raise StorageError(end.how)
        if row := self._answer(cell):
            progress.rows.append(row)
            return
        kind: Kind = "died" if end.kind == "over" else end.kind
        if end.alone:
            self._alone[self._jobs[cell.key].cell.key] = end.alone
        self._tries[cell.key, kind] += 1
        if (tries := self._tries[cell.key, kind]) < MOST[kind]:
            self._bring_back(progress, cell)
            self._requeue(progress, cell, seconds=BUSY_SECONDS if kind == "busy" else 0.0)
            return
        reason = (end.how or "it left no row") + (f" {tries} times" if tries > 1 else "")
        self._note(progress, cell, "failed", f"{reason}; {end.hint}" if end.hint else reason)

    def _bring_back(self, progress: Progress, cell: Cell) -> None:
        """Let what the cell needs be made again where its artefact was damaged and set aside."""
        open_keys = {self._jobs[handle.cell.key].cell.key for handle in progress.running}
        open_keys |= {job.cell.key for job in progress.waiting}
        for key in self._jobs[cell.key].cell.needs.values():
            need = self._jobs[key]
            gone = self.store.artefact(need.cell, any_version=self.any_version) is None
            if gone and key not in open_keys:
                progress.waiting.append(need)
                self._bring_back(progress, need.cell)

    def _requeue(self, progress: Progress, cell: Cell, seconds: float = BUSY_SECONDS) -> None:
        """Put a cell back at the end, to be started again no earlier than in so many seconds."""
        key = self._jobs[cell.key].cell.key
        progress.waiting.append(self._jobs[key])
        self._not_before[key] = time.monotonic() + seconds

    def _note(
        self, progress: Progress, cell: Cell, status: Any, reason: str, patience: float = 1.0
    ) -> None:
        """Put a cell on the board that left no row of its own, unless another runner is at work on it."""
        with self.store.claim(cell.key, wait=patience) as held:
            if row := self._answer(cell):
                progress.rows.append(row)
            elif held:
                self._write_note(progress, cell, status, reason)
            elif cell.key in self._jobs:
                self._requeue(progress, cell)

    def _write_note(self, progress: Progress, cell: Cell, status: Any, reason: str) -> None:
        family = str(methods.get(cell.method).family) if cell.method in methods else "not built"
        old = self.store.read(cell)
        if old is not None and old.cell.key == cell.key and old.reason == reason:
            progress.rows.append(old)
            return
        place = provenance(threads=self.where.threads, device=self.where.device)
        row = Row(
            cell=cell, status=status, reason=reason, facts={"family": family}, provenance=place
        )
        progress.rows.append(row)
        # where another machine has answered it, what is missing here is said and takes nothing away
        answered = any(other.cell.data_version for other in self.store.namesakes(cell))
        if cell.data_version or not answered:
            self.store.write(row, stage=family == "stage")


def summary(rows: list[Row]) -> Iterator[str]:
    """One line per outcome, e.g. ``done 12``."""
    for status, count in sorted(Counter(row.status for row in rows).items()):
        yield f"{status} {count}"
