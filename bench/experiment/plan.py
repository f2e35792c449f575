"""Plans the cells of a grid: which are done already, which run in what order, and how long they take."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from bench.cell import Cell
from bench.experiment.choice import Choice
from bench.experiment.forecast import UNKNOWN, Forecast, Forecaster, history_of
from bench.experiment.forecast.forecast import spread_of_sum
from bench.experiment.grid import Grid
from bench.experiment.wall import wall_seconds
from bench.method import Method, configure
from bench.registry import methods
from bench.results.badges import CODE_CHANGED, badges
from bench.results.store import Hit, Store

Reuse = Literal["auto", "same-code", "rows", "any", "never"]
ALWAYS_READ = frozenset({"ml_100k"})  # comes with the packages, and the calibration runs on it
KEPT = frozenset({"done", "failed", "left out"})  # answers that are not asked for again


@dataclass(frozen=True)
class Job:
    """One cell of a plan.

    Attributes:
        cell: the cell.
        hit: status of its row, see ``Store.look``.
        changed: badges of its row, e.g. ``code changed since``.
        todo: whether it runs.
        asked: True if the suite asks for it, False if another cell needs it.
        seen: ``Store.stamp`` of the cell when the plan was made.
        guess: the method's own estimate of the seconds, whether or not an earlier row was found.
        ranks: processes that share its work, each with a GPU of its own where there are GPUs.
        forecast: its time with an interval, and its memory.
        later: whether it would run if there were time for it.
    """

    cell: Cell
    hit: Hit
    todo: bool
    asked: bool
    seen: str = ""
    guess: float = 0.0
    changed: tuple[str, ...] = ()
    ranks: int = 1
    forecast: Forecast = UNKNOWN
    later: bool = False

    @property
    def seconds(self) -> float:
        """Predicted wall time of the whole cell."""
        return self.forecast.seconds

    @property
    def measured(self) -> bool:
        """Whether the prediction rests on a row of such a cell that was made here."""
        return self.forecast.measured

    @property
    def gpu_bytes(self) -> float | None:
        """Peak GPU memory of a row of such a cell; None if none was measured."""
        return self.forecast.gpu_bytes


@dataclass(frozen=True)
class Site:
    """Where cells will run.

    Attributes:
        device: ``cpu`` or ``cuda``; durations on the other kind do not count.
        places: cells at a time; on GPUs, processes that have one for themselves.
        ranks: processes of each cell whose method can share its work among several.
        cores: CPU cores of each cell.
        machine: part of the name of the machine whose published rows tell the times; None for this one.
    """

    device: str = "cpu"
    places: int = 1
    ranks: int = 1
    cores: int = 1
    machine: str | None = None


@dataclass(frozen=True)
class Plan:
    """Jobs in the order they run, cheap ones first as far as needs allow.

    Attributes:
        site: where they run.
    """

    jobs: list[Job]
    left_out: list[tuple[Cell, str]]
    site: Site = field(default_factory=Site)

    @cached_property
    def todo(self) -> list[Job]:
        """The jobs that run."""
        return [job for job in self.jobs if job.todo]

    @property
    def seconds(self) -> float:
        """Predicted seconds of all that runs, one cell after the other."""
        return sum(job.seconds for job in self.todo)

    @property
    def wall(self) -> float:
        """Predicted seconds of all that runs, as many cells at a time as there are places."""
        return wall_seconds(self.todo, self.site.places, wide=self.site.device == "cuda")

    @property
    def hours(self) -> float:
        """Predicted hours of GPUs, one for each process of a cell; without GPUs, of CPU cores."""
        gpu = self.site.device == "cuda"
        return (
            sum(job.seconds * (job.ranks if gpu else self.site.cores) for job in self.todo) / 3600
        )

    @property
    def spread(self) -> float:
        """Spread of the sum, see ``Forecast``."""
        return spread_of_sum([job.forecast for job in self.todo])

    def only(self, keys: set[str]) -> Plan:
        """The plan in which of all that runs only some cells do, and the others run later."""
        jobs = [
            replace(j, todo=False, later=True) if j.todo and j.cell.key not in keys else j
            for j in self.jobs
        ]
        return replace(self, jobs=jobs)


def make_plan(
    grid: Grid,
    store: Store,
    choice: Choice,
    *,
    reuse: Reuse = "auto",
    retry: bool = False,
    site: Site | None = None,
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
        site: where the cells will run; None for one CPU core.
    """
    cells, site = grid.by_key, site or Site()
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
    history = history_of(store, site.device, site.machine)
    datasets = ALWAYS_READ | {cell.dataset for cell in cells.values()}
    forecaster = Forecaster(history, choice.data_root, datasets)
    jobs = {}
    for key, cell in cells.items():
        known = Job(cell, hits[key], key in todo, key in asked, seen[key])
        known = replace(known, changed=changed.get(key, ()))
        jobs[key] = _sized(known, site.ranks if _spreads(cell) else 1, forecaster)
    return Plan([jobs[key] for key in _cheap_first(jobs)], grid.left_out, site)


def _sized(job: Job, ranks: int, forecaster: Forecaster) -> Job:
    """The job with the time and memory that it is expected to take on so many ranks."""
    return replace(
        job,
        guess=forecaster.guess(job.cell, ranks) or 0.0,
        ranks=ranks,
        forecast=forecaster.of(job.cell, ranks),
    )


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
