"""Foretells what cells take.

A cell takes a start, the same for all of its kind of work, and its phases. Every known row tells by which
factor its phases exceed its method's estimate. A cell is given its own estimate times the median factor of
its nearest relatives: rows of such a cell (of those made here the latest counts, as it is), of the same
method, loss, decoder and backbone, of the same method and backbone, of the same method, and at last of all
methods of the same kind of work. At each step rows made here come first, then the calibration, then published
rows, whose factor is first put right by the speed of this machine against theirs. A method without an
estimate is scaled by its training and test rows instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.cell import Cell, Size
from bench.errors import BenchError, Unavailable
from bench.experiment.forecast.family import Family, Relative, at_least, excesses
from bench.experiment.forecast.forecast import UNKNOWN, Basis, Forecast
from bench.experiment.forecast.known import Known, Source
from bench.experiment.forecast.size import START_SECONDS, guessed, kind_of, rows_of, size_of

SOURCES: tuple[Source, ...] = ("own rows", "calibration", "published")
ALONE = 1.6  # spread of an estimate that no row has put right, or of rows that no estimate has
START_SPREAD = 0.35
OF_ITS_METHOD = 4  # steps of kinship in which the method is the same


class Forecaster:
    """Foretells the time, memory and disk of cells.

    Args:
        history: rows from ``history_of``.
        root: folder of the data; None for each dataset's own.
        datasets: those that may be read to learn the size of rows that do not state it.
    """

    def __init__(
        self, history: Iterable[Known], root: Path | None, datasets: Collection[str]
    ) -> None:
        self._history, self._root, self._datasets = list(history), root, datasets
        self._families: dict[str, Family] = {}

    def of(self, cell: Cell, ranks: int = 1) -> Forecast:
        """What a cell will take.

        Args:
            cell: its data must be at hand.
            ranks: processes that will share its work.
        """
        family = self._family(kind_of(cell))
        near = family.near(cell, ranks)
        found = _same(near[0], family)
        if found is None:
            size = size_of(cell, self._root)
            found = _scaled(guessed(cell, size, ranks), rows_of(size), near, family)
        return _with_memory(found, near[:OF_ITS_METHOD])

    def guess(self, cell: Cell, ranks: int = 1) -> float | None:
        """The method's own estimate of the whole cell in seconds; None where it makes none.

        Args:
            cell: its data must be at hand.
            ranks: processes that will share its work.
        """
        own = guessed(cell, size_of(cell, self._root), ranks)
        return None if own is None else START_SECONDS + own

    def _size(self, cell: Cell) -> Size:
        if cell.dataset not in self._datasets:
            raise Unavailable(f"{cell.dataset} is not read to learn the size of {cell.name}")
        return size_of(cell, self._root)

    def _family(self, kind: str) -> Family:
        """The known rows of a kind; only their methods are imported."""
        if kind not in self._families:
            rows = [known for known in self._history if _kind(known.row.cell) == kind]
            self._families[kind] = Family(rows, self._size)
        return self._families[kind]


def _scaled(
    own: float | None, rows: float, near: Sequence[Sequence[Relative]], family: Family
) -> Forecast:
    """From relatives at any distance.

    Args:
        own: the method's estimate of the cell.
        rows: of the cell.
        near: its relatives at each step.
        family: all of them.
    """
    by_rows = own is None
    work = rows if own is None else own
    for step, group in enumerate(near):
        for source in SOURCES:
            members = [one for one in group if one.known.source == source]
            if factors := excesses(members, by_rows=by_rows):
                shift, unsure = family.speed if source == "published" else (0.0, 0.0)
                seconds = at_least(work) * math.exp(float(np.median(factors)) + shift)
                spread = family.spreads[step]
                if by_rows and step == OF_ITS_METHOD:  # a row of another method may be another work
                    spread = max(spread, ALONE)
                return _with_start(family.start, seconds, math.hypot(spread, unsure), source)
    return UNKNOWN if own is None else _with_start(family.start, own, ALONE, "estimate")


def _with_start(start: float, work: float, spread: float, basis: Basis) -> Forecast:
    """The forecast of a whole cell; of its start the spread is small.

    Args:
        start: seconds before and after the phases.
        work: seconds of the phases.
        spread: of these.
        basis: what they rest on.
    """
    whole = start + work
    high = start * math.exp(START_SPREAD) + work * math.exp(spread)
    return Forecast(whole, math.log(high / whole), basis)


def _same(near: Sequence[Relative], family: Family) -> Forecast | None:
    """From the latest row of such a cell that was made here."""
    rows = [one.known for one in near if one.known.source == "own rows"]
    if not rows:
        return None
    latest = max(rows, key=lambda known: str(known.row.provenance.get("date", "")))
    return Forecast(latest.seconds, family.spreads[0], "own cell")


def _kind(cell: Cell) -> str:
    try:
        return kind_of(cell)
    except BenchError:  # of a plugin that is not loaded
        return ""


def _with_memory(found: Forecast, near: Sequence[Sequence[Relative]]) -> Forecast:
    """The forecast with the highest peaks of the nearest relatives that have any."""

    def highest(group: Sequence[Relative], of: Callable[[Known], float | None]) -> float | None:
        return max((peak for one in group if (peak := of(one.known)) is not None), default=None)

    def nearest(of: Callable[[Known], float | None]) -> float | None:
        peaks = (highest(group, of) for group in near)
        return next((peak for peak in peaks if peak is not None), None)

    return replace(
        found,
        host_bytes=nearest(lambda known: known.host_bytes),
        disk_bytes=nearest(lambda known: known.disk_bytes),
        gpu_bytes=highest(near[0], lambda known: known.gpu_bytes),
    )
