"""Known rows of one kind of work, grouped by what they share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from bench.cell import AXES, Cell, Size
from bench.errors import BenchError
from bench.experiment.forecast.forecast import LEVEL
from bench.experiment.forecast.known import Known
from bench.experiment.forecast.size import START_SECONDS, guessed, noted_size, rows_of

# by step of kinship, the spread of log(actual / foretold) that is assumed until ENOUGH rows are known
ASSUMED = (0.25, 0.35, 0.6, 0.8, 1.2)
ENOUGH = 12
LEAST_SECONDS = 0.1
UNKNOWN_SPEED, ONE_PAIR = 0.7, 0.3  # spread of a speed of which nothing, or one thing, is known


class Relative(NamedTuple):
    """A known row with its place in the family.

    Attributes:
        kin: what it shares with relatives of each step, nearest first.
        work: estimated seconds of its phases; None where its method makes no estimate.
        rows: training and test rows.
    """

    known: Known
    kin: tuple[Any, ...]
    work: float | None
    rows: float

    def excess(self, *, by_rows: bool = False) -> float | None:
        """Log of the seconds of its phases against its work; None if its work is not known."""
        work = self.rows if by_rows else self.work
        return None if work is None else math.log(at_least(self.known.work) / at_least(work))


class Family:
    """The known rows of one kind of work.

    Args:
        rows: of this kind.
        size_of: the size of a cell whose row does not state it.
    """

    def __init__(self, rows: Iterable[Known], size_of: Callable[[Cell], Size]) -> None:
        self._rows, self._size_of = list(rows), size_of

    @cached_property
    def by_step(self) -> list[Mapping[Any, list[Relative]]]:
        """For each step of kinship, the relatives by what they share."""
        steps: list[Mapping[Any, list[Relative]]] = []
        members = list(self._members())
        for step in range(len(ASSUMED)):
            groups = defaultdict(list)
            for one in members:
                groups[one.kin[step]].append(one)
            steps.append(groups)
        return steps

    def _members(self) -> Iterator[Relative]:
        for known in self._rows:
            cell, ranks = known.row.cell, int(known.row.provenance.get("ranks", 1))
            try:
                size = noted_size(known.row) or self._size_of(cell)
                work = guessed(cell, size, ranks)
            except BenchError:  # its data are not here, or its options are of another version
                continue
            yield Relative(known, kin_of(cell, ranks), work, rows_of(size))

    def near(self, cell: Cell, ranks: int) -> list[list[Relative]]:
        """The relatives of a cell at each step, nearest first.

        Args:
            cell: the cell.
            ranks: processes that share its work.
        """
        kin = kin_of(cell, ranks)
        return [groups.get(shared, []) for groups, shared in zip(self.by_step, kin, strict=True)]

    @cached_property
    def start(self) -> float:
        """Seconds of a cell before and after its phases: the median here, else elsewhere."""
        for here in (True, False):
            known = [row.start for row in self._rows if row.here is here]
            if found := [start for start in known if start is not None]:
                return float(np.median(found))
        return START_SECONDS

    @cached_property
    def speed(self) -> tuple[float, float]:
        """Log of this machine's seconds against those of published rows, and its spread."""
        found = []
        for group in self.by_step[1].values():
            here, there = excesses(group, here=True), excesses(group, here=False)
            if here and there:
                found.append(float(np.median(here) - np.median(there)))
        if not found:
            return 0.0, UNKNOWN_SPEED
        return float(np.median(found)), max(float(np.std(found)), ONE_PAIR / len(found))

    @cached_property
    def spreads(self) -> list[float]:
        """By step, the spread that leaving each row out shows; it never shrinks with distance."""
        found: list[float] = []
        for assumed, groups in zip(ASSUMED, self.by_step, strict=True):
            misses = [miss for group in groups.values() for miss in _misses(group)]
            known = len(misses) >= ENOUGH
            spread = float(np.quantile(np.abs(misses), LEVEL)) if known else assumed
            found.append(max([spread, *found[-1:]]))
        return found


def at_least(seconds: float) -> float:
    """A time below which differences mean nothing counts as that."""
    return max(seconds, LEAST_SECONDS)


def excesses(
    group: Sequence[Relative], *, here: bool | None = None, by_rows: bool = False
) -> list[float]:
    """Log of seconds against work for each row of a group for which it is known.

    Args:
        group: some relatives.
        here: only rows made on this machine, or only others.
        by_rows: measure work in rows instead of estimates.
    """
    asked = [one for one in group if here is None or one.known.here is here]
    return [excess for one in asked if (excess := one.excess(by_rows=by_rows)) is not None]


def _misses(group: Sequence[Relative]) -> Iterator[float]:
    """By how much the others of its group and machine miss each row."""
    for here in (True, False):
        found = excesses(group, here=here)
        for number, one in enumerate(found):
            if others := found[:number] + found[number + 1 :]:
                yield one - float(np.median(others))


def kin_of(cell: Cell, ranks: int) -> tuple[Any, ...]:
    """What a cell shares with its relatives at each step.

    All that matters; method, loss, decoder and backbone; method and backbone; method; the kind of work.

    Args:
        cell: the cell.
        ranks: processes that share its work.
    """
    axes = tuple(getattr(cell, axis) for axis in AXES)
    # of a search: what it tries, how often, and how long each time
    inner = tuple(str(cell.config.get(name)) for name in ("method", *AXES))
    values = cell.config.get("values")
    tried = str(values.get("epochs") if isinstance(values, Mapping) else None)
    trials = (str(cell.config.get("trials")), tried)
    size = (cell.train_rows, cell.test_rows, cell.config.get("epochs"), cell.tune, ranks)
    return (
        (cell.dataset, cell.scale, cell.method, *axes, *inner, *size, *trials),
        (cell.method, *axes, *inner),
        (cell.method, cell.backbone, *inner),
        (cell.method, *inner),
        (),
    )
