"""Everything the command line does, a function call away: ``from bench.api import run, rows``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cell import Row
from bench.errors import ConfigError
from bench.execution.local import LocalExecutor
from bench.execution.places import places
from bench.execution.refresh import look_again
from bench.execution.schedule import Executor, Progress, Schedule
from bench.execution.site import site_of
from bench.execution.work import Surroundings
from bench.experiment.budget import within
from bench.experiment.choice import Choice
from bench.experiment.grid import Grid, expand
from bench.experiment.plan import Plan, Reuse, make_plan
from bench.experiment.suite import Suite, choose_scale, read, scales
from bench.questions.ask import lists, recommend, why, wins
from bench.registry import load_plugins, near
from bench.results.places import RESULTS, default_data_root, default_store
from bench.results.row_schema import check_cell
from bench.results.store import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Choice",
    "Order",
    "Prepared",
    "default_data_root",
    "default_store",
    "execute",
    "lists",
    "local_executor",
    "order",
    "prepare",
    "recommend",
    "rows",
    "run",
    "why",
    "wins",
]
SEVERAL = frozenset({"datasets", "methods", "losses", "seeds", "plugins", "gpus"})


@dataclass(frozen=True, kw_only=True)
class Order:
    """A suite and how it is to be run.

    Attributes:
        suite: name or path.
        choice: scale (``auto`` is resolved by ``prepare``), profile and filters.
        reuse, retry: see ``bench.experiment.plan.make_plan``.
        plugins: files that register more methods.
        jobs: cells at a time; None for as many as GPUs, cores and memory carry.
        gpus_per_cell: processes, each with its own GPU, of every cell whose method can share its work; on a
            CPU they share the cores. None for what suite or scale say, as far as there are GPUs.
        gpus: indices of the GPUs to use; None for all, empty for none.
        limit_seconds: longest life of one cell; None for ten times what was predicted, an hour at least;
            ``math.inf`` for none.
        device: ``cpu`` or ``cuda``, where the cells will run; None for what this machine offers.
        microscope: how often each training is looked at; 0 for as often as costs little, None for never.
        gpus_there: GPUs that one cell can have where cells run elsewhere; None for those of this machine.
        at_once, cores_there: cells at a time, and cores of each, where cells run elsewhere; None for those of
            this machine.
        budget: seconds in which what runs is to end; None for all of it. See ``bench.experiment.budget``.
        machine: part of the name of a machine whose rows tell the times instead of this one's; for plans.
    """

    suite: str = "paper"
    choice: Choice = field(default_factory=lambda: Choice(scale="auto"))
    reuse: Reuse = "auto"
    retry: bool = False
    plugins: Sequence[str] = ()
    jobs: int | None = None
    gpus: Sequence[int] | None = None
    limit_seconds: float | None = None
    device: str | None = None
    microscope: int | None = None
    gpus_per_cell: int | None = None
    gpus_there: int | None = None
    at_once: int | None = None
    cores_there: int | None = None
    budget: float | None = None
    machine: str | None = None


@dataclass(frozen=True)
class Prepared:
    """An order with its suite read, its scale chosen, its plan made and the device that its cells run on."""

    order: Order
    suite: Suite
    store: Store
    plan: Plan
    why_scale: str
    device: str = "cpu"


def prepare(order: Order, store: Store | None = None) -> Prepared:
    """Read a suite, expand it and plan its cells, without running anything.

    Code and data are read from disk anew, so a notebook plans with what is there now.

    Args:
        order: the suite and how it is to be run.
        store: where earlier rows and artefacts are; None for the default.

    Raises:
        BenchError: the suite or a filter is at fault; all faults at once.
        ConfigError: a number is out of range, or a folder for rows or artefacts cannot be had.
    """
    look_again()
    load_plugins(order.plugins)
    # what is wrong with a number or a folder is told before anything is read
    here = places(order.jobs, order.gpus)
    store = store or default_store()
    _check_limit(order.limit_seconds)
    for option, folder in (("--out", store.rows), ("--store", store.root)):
        _check_folder(option, folder)
    suite = read(order.suite)
    scale, why = choose_scale(order.choice.scale, order.gpus, suite)
    choice = replace(order.choice, scale=scale)
    grid = expand(suite, choice)
    _check_cells(grid)
    usual = suite.gpus_per_cell or scales()[scale].gpus_per_cell
    site = site_of(order, store, here, usual)
    plan = make_plan(grid, store, choice, reuse=order.reuse, retry=order.retry, site=site)
    if order.budget is not None:
        plan = within(plan, order.budget, [cell.key for cell in grid.cells])
    return Prepared(replace(order, choice=choice), suite, store, plan, why, site.device)


def _check_cells(grid: Grid) -> None:
    """Raise ConfigError, before anything runs, for a cell whose row nobody could read."""
    for cell in grid.by_key.values():
        try:
            check_cell(cell.as_dict())
        except ValueError as fault:
            raise ConfigError(f"{cell.label}: no row can hold its {fault}") from fault


def _check_limit(seconds: float | None) -> None:
    if seconds is not None and not seconds > 0:  # nan is not
        raise ConfigError(
            f"--limit-minutes {seconds / 60:g}: it must be more than 0, or 0 for no limit"
        )


def _check_folder(option: str, folder: Path) -> None:
    """Raise ConfigError if a folder does not exist and cannot be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(
            f"{option}: {there} is a file; give a folder, it is made if it is missing"
        )
    # a plan may look at folders of others, but none can be made there
    if there != folder and not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{option}: nothing can be made in {there}; give a folder of your own")


def _make_folder(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"no right to write in {folder}")
    except OSError as fault:
        raise ConfigError(f"{option}: {fault}; give a folder of your own") from fault


def local_executor(prepared: Prepared) -> LocalExecutor:
    """The executor of this machine for a prepared plan."""
    here = places(prepared.order.jobs, prepared.order.gpus)
    return LocalExecutor(here, [job.cell for job in prepared.plan.todo])


def execute(
    prepared: Prepared,
    *,
    notify: Callable[[Progress], None] = lambda progress: None,
    executor: Executor | None = None,
) -> list[Row]:
    """Run a prepared plan; returns its rows, those that other runners wrote in the meantime included.

    Args:
        prepared: from ``prepare``.
        notify: called with the state of the run whenever it changes.
        executor: where cells run; None for processes on this machine.

    Raises:
        ConfigError: nothing can be written where rows or artefacts go.
    """
    order = prepared.order
    _make_folder("--out", prepared.store.rows)
    _make_folder("--store", prepared.store.root)
    schedule = Schedule(
        plan=prepared.plan,
        where=Surroundings(
            store=prepared.store,
            data_root=order.choice.data_root,
            plugins=tuple(str(Path(p).resolve()) for p in order.plugins),
            fresh=order.reuse == "never",
            microscope=order.microscope,
        ),
        executor=executor or local_executor(prepared),
        limit_seconds=order.limit_seconds,
        any_version=order.reuse == "any",
        notify=notify,
    )
    return schedule.run()


def run(
    suite: str = "paper",
    *,
    out: str | Path = RESULTS,
    store: str | Path | None = None,
    notify: Callable[[Progress], None] = lambda progress: None,
    **options: Any,
) -> pd.DataFrame:
    """Run a suite from a notebook and return its rows as a frame.

    It takes all that `bench run` takes: ``run("smoke", methods="sasrec", config={"epochs": 3})``.

    Args:
        suite: name or path of a suite.
        out: folder of rows and tables.
        store: folder of everything else; None for ``$BENCH_STORE``, else ``.bench``.
        notify: called with the state of the run whenever it changes.
        options: fields of ``Choice`` (scale, profile, data_root, datasets, methods, losses, seeds, config
            ...) and of ``Order`` (reuse, retry, plugins, jobs, gpus, limit_seconds ...); a single name or
            number where several are meant is a list of one.

    Raises:
        ConfigError: an option that does not exist; names the nearest.
        BenchError: as ``prepare`` and ``execute``.
    """
    prepared = prepare(order(suite, **options), default_store(out, store))
    execute(prepared, notify=notify)
    return rows(prepared.store.rows)


def order(suite: str = "paper", **options: Any) -> Order:
    """An order from the options of ``run``.

    Args:
        suite: name or path of a suite.
        options: as for ``run``.

    Raises:
        ConfigError: an option that does not exist; names the nearest.
    """
    of_choice = {part.name for part in fields(Choice)}
    of_order = {part.name for part in fields(Order)} - {"suite", "choice"}
    for name in options:
        if name not in of_choice | of_order:
            raise ConfigError(f"run() has no option {name!r}.{near(name, of_choice | of_order)}")
    given = {name: _listed(name, value) for name, value in options.items()}
    choice = {name: value for name, value in given.items() if name in of_choice}
    choice["data_root"] = default_data_root(choice.get("data_root"))
    rest = {name: value for name, value in given.items() if name in of_order}
    return Order(suite=suite, choice=Choice(**{"scale": "auto", **choice}), **rest)


def _listed(name: str, value: Any) -> Any:
    """A list of one where a single name or number stands for several."""
    single = isinstance(value, (str, int, Path)) and not isinstance(value, bool)
    return [value] if name in SEVERAL and single else value


def rows(folder: str | Path | None = None) -> pd.DataFrame:
    """Rows as one frame, one line a cell, configuration and metrics as columns.

    Args:
        folder: whose rows; None for one's own (``results/rows``) and the published ones that they do not
            answer (``leaderboards/rows``), which the column ``published`` tells apart.
    """
    from bench.board import as_frame

    return as_frame(folder)
