"""Expands a suite into cells: all faults are listed at once, and what is left out has a reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.cell import Cell
from bench.errors import BenchError, SuiteError, Unavailable
from bench.experiment.axes import Axes, axes_of, check_fit, not_built
from bench.experiment.choice import Choice
from bench.experiment.expansion import Expansion
from bench.experiment.given import idle_values, with_values
from bench.experiment.profiles import decoders_of, profile
from bench.experiment.suite import Scale, Suite, SuiteRow, scales
from bench.registry import datasets, near

SEEDS = 2**32  # what np.random.seed takes: 0 up to here


@dataclass(frozen=True)
class Grid:
    """The outcome of expanding a suite.

    Attributes:
        cells: what the suite asks for, in its order.
        support: cells that others need, by key.
        left_out: cells that cannot run here or are not built yet, with the reason.
    """

    cells: list[Cell]
    support: dict[str, Cell]
    left_out: list[tuple[Cell, str]]

    @property
    def by_key(self) -> dict[str, Cell]:
        """Every cell there is work for."""
        return {**self.support, **{cell.key: cell for cell in self.cells}}


def expand(suite: Suite, choice: Choice) -> Grid:
    """Turn a suite into cells, with every fault of it reported at once.

    Args:
        suite: the suite.
        choice: scale, profile and filters.

    Raises:
        SuiteError: names or values that no registry or config knows; all of them in one message.
    """
    scale = scales()[choice.scale]
    work = Expansion(suite, choice, scale, profile(choice.profile))
    grid = Grid([], work.support, [])
    faults = list(_idle_filters(suite, choice, scale))
    for dataset, row, seed in _points(suite, choice, scale):
        for axes in _axes(row, choice, scale, losses=choice.losses):
            if missing := not_built(row, axes):
                grid.left_out.append((work.stub(dataset, seed, row, axes), missing))
                continue
            try:
                check_fit(row, axes)
                grid.cells.append(work.cell(dataset, seed, row, axes))
            except Unavailable as reason:
                grid.left_out.append((work.stub(dataset, seed, row, axes), str(reason)))
            except BenchError as fault:
                faults.append(f"{dataset}/{row.method}: {fault}")
    faults += _shared_slots(grid)
    if not (faults or grid.cells or grid.left_out):
        faults.append(f"no row is left at scale {choice.scale} after all filters")
    if faults:
        found = list(dict.fromkeys(faults))
        raise SuiteError(f"{len(found)} fault(s) in the suite:\n  " + "\n  ".join(found))
    grid.cells[:] = list({cell.key: cell for cell in grid.cells}.values())
    return grid


def _points(suite: Suite, choice: Choice, scale: Scale) -> Iterator[tuple[str, SuiteRow, int]]:
    seeds = _seeds(suite, choice)
    for dataset in filter(datasets.__contains__, _datasets(suite, choice)):
        for row in _asked(suite, choice):
            given = with_values(row, scale, choice.config)
            yield from ((dataset, given, seed) for seed in seeds)


def _asked(suite: Suite, choice: Choice) -> Iterator[SuiteRow]:
    for row in suite.rows_at(choice.scale):
        if choice.methods is None or row.method in choice.methods:
            yield row


def _axes(
    row: SuiteRow, choice: Choice, scale: Scale, losses: Sequence[str] | None = None
) -> Iterator[Axes]:
    given = decoders_of(choice.profile, row.method)
    return axes_of(row, scale, backbone=choice.backbone, losses=losses, decoders_of=given)


def _seeds(suite: Suite, choice: Choice) -> Sequence[int]:
    return choice.seeds if choice.seeds is not None else suite.seeds_at(choice.scale)


def _datasets(suite: Suite, choice: Choice) -> Sequence[str]:
    return choice.datasets or suite.datasets_at(choice.scale)


def _shared_slots(grid: Grid) -> Iterator[str]:
    """Pairs of cells whose rows would have the same file, so that each would overwrite the other's."""
    first: dict[str, Cell] = {}
    for cell in grid.by_key.values():
        other = first.setdefault(cell.slot, cell)
        if other != cell:
            yield (
                f"{cell.name}: asked for twice, with one configuration but on different needs (such as "
                "the search before it), and there is one row for both; leave one out or set it apart by "
                "a value of its own"
            )


def _idle_filters(suite: Suite, choice: Choice, scale: Scale) -> Iterator[str]:
    """Faults of filters and seeds: names that no row has, seeds that NumPy does not take."""
    for name in _datasets(suite, choice):
        if name not in datasets:
            yield f"no dataset is called {name!r}.{near(name, datasets)}"
    rows = {row.method for row in suite.rows}
    here = {row.method for row in suite.rows_at(choice.scale)}
    for name in choice.methods or ():
        if name not in rows:
            yield f"--methods {name}: the suite has no such row.{near(name, rows)}"
        elif name not in here:
            at = [s for s in scales() if name in {row.method for row in suite.rows_at(s)}]
            where = f"the suite has it at --scale {', '.join(at)}"
            yield f"--methods {name}: not at scale {choice.scale}; {where}"
    every = [axes for row in suite.rows_at(choice.scale) for axes in _axes(row, choice, scale)]
    known = {axes.loss for axes in every if axes.loss is not None}
    for name in choice.losses or ():
        if name not in known:
            yield f"--losses {name}: no row of the suite has it.{near(name, known)}"
    yield from idle_values(_asked(suite, choice), choice.config)
    for seed in _seeds(suite, choice):
        if not 0 <= seed < SEEDS:
            yield f"seed {seed}: it must be from 0 to {SEEDS - 1}; NumPy takes no other"
