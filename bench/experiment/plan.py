"""Plans the cells of a grid: which are done already, which run in what order, and how long they take."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from bench.cell import Cell, Row
from bench.experiment.choice import Choice
from bench.experiment.forecast import (
    START_SECONDS,
    earlier_row,
    gpu_peak,
    guessed,
    history_of,
    spent,
)
from bench.experiment.grid import Grid
from bench.method import Method, configure
from bench.registry import methods
from bench.results.badges import CODE_CHANGED, badges
from bench.results.store import Hit, Store

Reuse = Literal["auto", "same-code", "rows", "any", "never"]
KEPT = frozenset({"done", "failed", "left out"})  # answers that are not asked for again


@dataclass(frozen=True)
class Job:
    """One cell of a plan.

    Attributes:
        cell: the cell.
        hit: status of its row, see ``Store.look``.
        changed: badges of its row, e.g. ``code changed since``.
        todo: whether it runs.
        seconds: predicted wall time of the whole cell.
        measured: True if the prediction rests on an earlier row, False if on the method's estimate.
        asked: True if the suite asks for it, False if another cell needs it.
        seen: ``Store.stamp`` of the cell when the plan was made.
        guess: the method's own estimate of the seconds, whether or not an earlier row was found.
        ranks: processes that share its work, each with a GPU of its own where there are GPUs.
        gpu_bytes: peak GPU memory of an earlier row of the same kind; None if none was measured.
    """

    cell: Cell
    hit: Hit
    todo: bool
    seconds: float
    measured: bool
    asked: bool
    seen: str = ""
    guess: float = 0.0
    changed: tuple[str, ...] = ()
    ranks: int = 1
    gpu_bytes: float | None = None


@dataclass(frozen=True)
class Plan:
    """Jobs in the order they run, cheap ones first as far as needs allow."""

    jobs: list[Job]
    left_out: list[tuple[Cell, str]]

    @cached_property
    def todo(self) -> list[Job]:
        """The jobs that run."""
        return [job for job in self.jobs if job.todo]

    @property
    def seconds(self) -> float:
        """Predicted seconds of all that runs, one cell after the other."""
        return sum(job.seconds for job in self.todo)


def make_plan(
    grid: Grid,
    store: Store,
    choice: Choice,
    *,
    reuse: Reuse = "auto",
    retry: bool = False,
    device: str = "cpu",
    ranks: int = 1,
) -> Plan:
    """Decide what runs and in which order.

    Args:
        grid: the expanded suite.
        store: where earlier answers are.
        choice: what was asked; names the data root.
        reuse: ``auto`` takes a row made here that answers the cell, ``same-code`` only if the source is
            still the same, ``rows`` also a published one, ``any`` one of any version from the
            same data, ``never`` runs everything again.
        retry: run failed and left-out cells again.
        device: ``cpu`` or ``cuda``, where the cells will run; durations of the other kind do not count.
        ranks: processes of each cell whose method can share its work among several.
    """
    cells = grid.by_key
    asked = {cell.key for cell in grid.cells}
    wide = {"any_version": reuse == "any", "foreign": reuse in {"rows", "any"}}
    # before anything else is read, so that a row written meanwhile counts as new
    seen = {key: store.stamp(key) for key in cells}
    hits = {key: store.look(cell, **wide) for key, cell in cells.items()}
    changed = {key: _changed(store, cell) for key, cell in cells.items() if hits[key] in KEPT}
    if reuse == "same-code":
        hits |= {key: "stale" for key, badges in changed.items() if CODE_CHANGED in badges}
    settled = {"done"} if retry else KEPT
    todo = {key for key in asked if reuse == "never" or hits[key] not in settled}
    for key in _downstream_first(cells):
        if key in todo:
            todo |= {
                need
                for need in cells[key].needs.values()
                if reuse == "never"
                or hits[need] != "done"
                or store.artefact(cells[need], any_version=reuse == "any") is None
            }
    history = history_of(store, device)
    jobs = {}
    for key, cell in cells.items():
        known = Job(cell, hits[key], key in todo, 0.0, False, key in asked, seen[key])
        known = replace(known, changed=changed.get(key, ()))
        jobs[key] = _sized(known, ranks if _spreads(cell) else 1, history, choice.data_root)
    return Plan([jobs[key] for key in _cheap_first(jobs)], grid.left_out)


def _sized(job: Job, ranks: int, history: list[Row], root: Path | None) -> Job:
    """The job with the time and memory that it is expected to take on so many ranks."""
    guess, earlier = guessed(job.cell, root), earlier_row(job.cell, ranks, history)
    job = replace(job, guess=guess, seconds=guess, ranks=ranks)
    if earlier is None:
        return job
    seconds = START_SECONDS + spent(earlier)
    return replace(job, seconds=seconds, measured=True, gpu_bytes=gpu_peak(earlier))


def _spreads(cell: Cell) -> bool:
    method: type[Method] = methods.get(cell.method)
    return method.spreads(configure(method, cell.config, stored=True), loss=cell.loss)


def _changed(store: Store, cell: Cell) -> tuple[str, ...]:
    row = store.find(cell)
    return badges(row) if row is not None else ()


def _downstream_first(cells: Mapping[str, Cell]) -> list[str]:
    order: list[str] = []

    def visit(key: str) -> None:
        if key not in order:
            for need in cells[key].needs.values():
                visit(need)
            order.append(key)

    for key in cells:
        visit(key)
    return order[::-1]


def _cheap_first(jobs: Mapping[str, Job]) -> Iterator[str]:
    """Keys in order of execution: cheapest first, counting unfinished needs, which come before."""
    chains = {key: list(_chain(key, jobs)) for key, job in jobs.items() if job.asked}
    users: dict[str, list[str]] = {}
    for key, chain in chains.items():
        for member in chain:
            users.setdefault(member, []).append(key)
    done: set[str] = set()

    def entry(key: str) -> tuple[float, str, str]:
        price = sum(jobs[k].seconds for k in chains[key] if jobs[k].todo and k not in done)
        return price, jobs[key].cell.label, key

    heap = [entry(key) for key in chains]
    heapq.heapify(heap)
    while heap:
        _, _, best = heapq.heappop(heap)
        fresh = [key for key in chains[best] if key not in done]
        yield from fresh
        done.update(fresh)
        # a price falls when a need is done; what it was before is left behind in the heap
        cheaper = {user for key in fresh for user in users[key]} - done
        for user in cheaper:
            heapq.heappush(heap, entry(user))


def _chain(key: str, jobs: Mapping[str, Job]) -> dict[str, None]:
    """A cell with all that it needs, needs first."""
    found: dict[str, None] = {}
    for need in jobs[key].cell.needs.values():
        found |= _chain(need, jobs)
    return found | {key: None}
