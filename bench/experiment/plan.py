"""Plans the cells of a grid: which are done already, which run in what order, and how long they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from bench.cell import AXES, Cell, Row, Size
from bench.data.load import load_dataset
from bench.experiment.choice import Choice
from bench.experiment.grid import Grid
from bench.method import Method, configure
from bench.registry import methods
from bench.results.badges import CODE_CHANGED, badges
from bench.results.row_files import rows_under
from bench.results.store import Hit, Store

Reuse = Literal["auto", "same-code", "rows", "any", "never"]
KEPT = frozenset({"done", "failed", "left out"})  # answers that are not asked for again
START_SECONDS = 1.0  # what a cell costs before it does anything, from a warm process


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
    history = _history(store, device)
    jobs = {}
    for key, cell in cells.items():
        guess = _guess(cell, choice.data_root)
        found = _measured(cell, history)
        jobs[key] = Job(
            cell,
            hits[key],
            todo=key in todo,
            seconds=guess if found is None else found,
            measured=found is not None,
            asked=key in asked,
            seen=seen[key],
            guess=guess,
            changed=changed.get(key, ()),
        )
    return Plan([jobs[key] for key in _cheap_first(jobs)], grid.left_out)


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
    done: set[str] = set()

    def chain(key: str) -> list[str]:
        needs = (n for need in jobs[key].cell.needs.values() for n in chain(need))
        return [*dict.fromkeys(n for n in needs if n not in done), key]

    def price(key: str) -> float:
        return sum(jobs[k].seconds for k in chain(key) if jobs[k].todo)

    waiting = {key for key, job in jobs.items() if job.asked}
    while waiting:
        best = min(waiting, key=lambda k: (price(k), jobs[k].cell.label, k))
        for key in chain(best):
            if key not in done:
                done.add(key)
                yield key
        waiting -= done


def _history(store: Store, device: str) -> list[Row]:
    """The finished rows of a store that were made on such a device."""
    homes = [store.rows, store.root / "stages", *filter(None, [store.published])]
    rows = [row for home in homes for _, row in rows_under(home)]
    return [
        row
        for row in rows
        if row.status == "done"
        and str(row.provenance.get("device", "")).partition(":")[0] == device
    ]


def spent(row: Row) -> float:
    """Seconds a row took, phases added up."""
    return sum(phase.get("seconds") or 0.0 for phase in row.cost.values())


def _kind(cell: Cell) -> tuple[object, ...]:
    """All that cells must share for the duration of one to predict that of the other."""
    size = (cell.train_rows, cell.test_rows, cell.config.get("epochs"), cell.tune)
    # of a search: what it tries, how often, and how long each time
    inner = [str(cell.config.get(name)) for name in ("method", *AXES, "trials")]
    values = cell.config.get("values")
    inner.append(str(values.get("epochs") if isinstance(values, Mapping) else None))
    axes = tuple(getattr(cell, axis) for axis in AXES)
    return (cell.dataset, cell.method, *axes, cell.scale, *size, *inner)


def _measured(cell: Cell, history: list[Row]) -> float | None:
    """Seconds that the latest cell of the same kind took; None if there was none."""
    alike = [row for row in history if _kind(row.cell) == _kind(cell)]
    if not alike:
        return None
    latest = max(alike, key=lambda row: str(row.provenance.get("date", "")))
    return START_SECONDS + spent(latest)


def _guess(cell: Cell, root: Path | None) -> float:
    """The method's own estimate of a cell's seconds."""
    method: type[Method] = methods.get(cell.method)
    split = load_dataset(cell.dataset, root, uncut=cell.uncut).split
    size = Size(
        train_rows=min(cell.train_rows or len(split.train), len(split.train)),
        test_rows=min(cell.test_rows or len(split.test), len(split.test)),
        n_items=split.train.n_items,
        loss=cell.loss,
        backbone=cell.backbone,
    )
    return START_SECONDS + method.estimate_seconds(
        configure(method, cell.config, stored=True), size
    )
