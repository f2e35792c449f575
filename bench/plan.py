"""Cells -> a DAG of work: what the store already has, what runs in which order, how long it may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from bench.cell import Cell, Row, Size
from bench.data.load import load_dataset
from bench.errors import DataError
from bench.grid import Choice, Grid
from bench.method import Method, configure
from bench.registry import methods
from bench.store import Hit, Store, read_row

Reuse = Literal["auto", "rows", "any", "never"]
START_SECONDS = 1.0  # what a cell costs before it does anything, from a warm process


@dataclass(frozen=True)
class Job:
    """One cell of a plan.

    Attributes:
        cell: the cell.
        hit: what the store holds for it.
        todo: whether it runs.
        seconds: predicted wall time of the whole cell.
        measured: True if the prediction rests on an earlier row, False if on the method's estimate.
        asked: True if the suite asks for it, False if another cell needs it.
        seen: the store's mark of its answer when the plan was made.
    """

    cell: Cell
    hit: Hit
    todo: bool
    seconds: float
    measured: bool
    asked: bool
    seen: str = ""


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
    grid: Grid, store: Store, choice: Choice, *, reuse: Reuse = "auto", retry: bool = False
) -> Plan:
    """Decide what runs and in which order.

    Args:
        grid: the expanded suite.
        store: where earlier answers are.
        choice: what was asked; names the data root.
        reuse: ``auto`` takes a row made here by the same code, ``rows`` also one that came with the rows,
            ``any`` one made by any code from the same data, ``never`` runs everything again.
        retry: run failed and left-out cells again.
    """
    cells = grid.by_key
    asked = {cell.key for cell in grid.cells}
    wide = {"any_code": reuse == "any", "foreign": reuse in {"rows", "any"}}
    seen = {key: store.stamp(key) for key in cells}  # first: what comes after is an answer since
    hits = {key: store.look(cell, **wide) for key, cell in cells.items()}
    settled = {"done"} if retry else {"done", "failed", "left out"}
    todo = {key for key in asked if reuse == "never" or hits[key] not in settled}
    for key in _downstream_first(cells):
        if key in todo:
            todo |= {
                need
                for need in cells[key].needs.values()
                if reuse == "never"
                or hits[need] != "done"
                or store.artefact(cells[need], any_code=reuse == "any") is None
            }
    history = _history(store)
    jobs = {}
    for key, cell in cells.items():
        seconds, measured = _forecast(cell, history, choice.data_root)
        jobs[key] = Job(cell, hits[key], key in todo, seconds, measured, key in asked, seen[key])
    return Plan([jobs[key] for key in _cheap_first(jobs)], grid.left_out)


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
    """Keys by the cost of a job together with what it still waits for; needs before what needs them."""
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


def _history(store: Store) -> list[Row]:
    rows = []
    for home in (store.rows, store.root / "stages"):
        for path in home.rglob("*.json"):
            try:
                rows.append(read_row(path))
            except DataError:
                continue  # a broken row must not stop a plan; `bench board` names it
    return [row for row in rows if row.status == "done"]


def spent(row: Row) -> float:
    """Seconds a row took, phases added up."""
    return sum(phase.get("seconds") or 0.0 for phase in row.cost.values())


def _forecast(cell: Cell, history: list[Row], root: Path | None) -> tuple[float, bool]:
    """Predicted seconds and whether they were measured on a cell of the same kind and size."""

    def kind(c: Cell) -> tuple[object, ...]:
        size = (c.train_rows, c.test_rows, c.config.get("epochs"), c.tune)
        return (c.dataset, c.method, c.loss, c.decoder, c.backbone, c.scale, *size)

    alike = [row for row in history if kind(row.cell) == kind(cell)]
    if alike:
        latest = max(alike, key=lambda row: str(row.provenance.get("date", "")))
        return START_SECONDS + spent(latest), True
    method: type[Method] = methods.get(cell.method)
    split = load_dataset(cell.dataset, root, cell.profile).split
    size = Size(
        train_rows=min(cell.train_rows or len(split.train), len(split.train)),
        test_rows=min(cell.test_rows or len(split.test), len(split.test)),
        n_items=split.train.n_items,
        loss=cell.loss,
        backbone=cell.backbone,
    )
    guess = method.estimate_seconds(configure(method, cell.config), size)
    return START_SECONDS + guess, False
