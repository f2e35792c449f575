"""Everything the command line does, a function call away: ``from bench.api import run, rows``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cell import Row
from bench.executors.local import LocalExecutor, slots
from bench.grid import Choice, expand
from bench.plan import Plan, Reuse, make_plan
from bench.registry import load_plugin
from bench.runner import Surroundings
from bench.schedule import Executor, Progress, Schedule
from bench.store import Store
from bench.suite import Suite, choose_scale, read

if TYPE_CHECKING:
    import pandas as pd


def default_store(out: str | Path = "leaderboards", store: str | Path | None = None) -> Store:
    """Rows under ``out``/rows; the run store at ``store``, $BENCH_STORE or .bench."""
    root = Path(store or os.environ.get("BENCH_STORE", ".bench"))
    return Store(rows=Path(out) / "rows", root=root.resolve())


def default_data_root(given: str | Path | None = None) -> Path | None:
    """The folder given, else $BENCH_DATA, else None (each dataset's own default)."""
    value = given or os.environ.get("BENCH_DATA")
    return Path(value).resolve() if value else None


@dataclass(frozen=True, kw_only=True)
class Order:
    """A suite and how it is to be run.

    Attributes:
        suite: name or path.
        choice: scale (``auto`` is resolved by ``prepare``), profile and filters.
        reuse, retry: see ``bench.plan.make_plan``.
        plugins: files that register more methods.
        jobs: cells at a time; None for one a GPU, or as many as cores and memory carry.
        gpus: indices of the GPUs to use; None for all, empty for none.
        limit_seconds: longest life of one cell; None for ten times what was predicted, an hour at least;
            ``math.inf`` for none.
    """

    suite: str = "paper"
    choice: Choice = field(default_factory=lambda: Choice(scale="auto"))
    reuse: Reuse = "auto"
    retry: bool = False
    plugins: Sequence[str] = ()
    jobs: int | None = None
    gpus: Sequence[int] | None = None
    limit_seconds: float | None = None


@dataclass(frozen=True)
class Prepared:
    """An order with its suite read, its scale chosen and its plan made."""

    order: Order
    suite: Suite
    store: Store
    plan: Plan
    why_scale: str


def prepare(order: Order, store: Store | None = None) -> Prepared:
    """Read, expand and plan without running anything.

    Raises:
        BenchError: the suite or a filter is at fault; all faults at once.
    """
    for plugin in order.plugins:
        load_plugin(plugin)
    slots(order.jobs, order.gpus)  # a wrong number is told before anything is read
    suite = read(order.suite)
    scale, why = choose_scale(order.choice.scale, order.gpus)
    choice = replace(order.choice, scale=scale)
    store = store or default_store()
    grid = expand(suite, choice)
    plan = make_plan(grid, store, choice, reuse=order.reuse, retry=order.retry)
    return Prepared(replace(order, choice=choice), suite, store, plan, why)


def local_executor(prepared: Prepared) -> LocalExecutor:
    """The executor of this machine for a prepared plan."""
    places = slots(prepared.order.jobs, prepared.order.gpus)
    return LocalExecutor(places, [job.cell for job in prepared.plan.todo])


def execute(
    prepared: Prepared,
    *,
    notify: Callable[[Progress], None] = lambda progress: None,
    executor: Executor | None = None,
) -> list[Row]:
    """Run a prepared plan; returns the rows written or found on the way."""
    order = prepared.order
    schedule = Schedule(
        plan=prepared.plan,
        where=Surroundings(
            store=prepared.store,
            data_root=order.choice.data_root,
            plugins=tuple(str(Path(p).resolve()) for p in order.plugins),
            fresh=order.reuse == "never",
        ),
        executor=executor or local_executor(prepared),
        limit_seconds=order.limit_seconds,
        any_code=order.reuse == "any",
        notify=notify,
    )
    return schedule.run()


def run(suite: str = "paper", **choice: object) -> pd.DataFrame:
    """Run a suite from a notebook and return its rows as a frame.

    Args:
        suite: name or path of a suite.
        choice: fields of ``Choice``: scale, profile, data_root, datasets, methods, losses, seeds ...
    """
    asked = Choice(**{"scale": "auto", "data_root": default_data_root(), **choice})  # type: ignore[arg-type]
    prepared = prepare(Order(suite=suite, choice=asked))
    execute(prepared)
    return rows(prepared.store.rows)


def rows(folder: str | Path = "leaderboards/rows") -> pd.DataFrame:
    """Every row of a folder as one frame, one line a cell, configuration and metrics as columns."""
    from bench.board import as_frame, load_rows

    return as_frame(load_rows(Path(folder)))
