"""Rows whose time is known: made here, by the calibration, or published from another machine."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bench.cell import Row
from bench.errors import ConfigError, DamagedError
from bench.experiment.forecast.calibration import Calibration, calibration_path, device_kind
from bench.experiment.forecast.size import START_SECONDS
from bench.results.row_files import rows_under
from bench.results.store import Store

Source = Literal["own rows", "calibration", "published"]
log = logging.getLogger("bench.damage")


@dataclass(frozen=True)
class Known:
    """A finished row.

    Attributes:
        row: the row.
        source: ``own rows`` and ``calibration`` were made on the machine that is planned for.
    """

    row: Row
    source: Source

    @property
    def here(self) -> bool:
        """Whether it was made on the machine that is planned for."""
        return self.source != "published"

    @property
    def start(self) -> float | None:
        """Seconds before and after the phases; None if the row does not say it."""
        whole = self.row.provenance.get("wall_seconds")
        return None if whole is None else max(float(whole) - spent(self.row), 0.0)

    @property
    def work(self) -> float:
        """Seconds of all phases, those aside in which others had its core.

        On one CPU thread the processor's seconds tell that; on more, and on a GPU, wall time is taken.
        """
        made, wall = self.row.provenance, spent(self.row)
        used = [bill.get("cpu_seconds") for bill in self.row.cost.values()]
        one_thread = made.get("threads") == 1 and made.get("ranks", 1) == 1
        if not one_thread or device_kind(self.row) != "cpu" or None in used:
            return wall
        return min(wall, sum(seconds or 0.0 for seconds in used))

    @property
    def seconds(self) -> float:
        """Seconds of the whole cell, those aside in which others had its core."""
        return self.work + (START_SECONDS if self.start is None else self.start)

    @property
    def host_bytes(self) -> float | None:
        """Peak memory of the host."""
        return _peak(self.row, "peak_host_bytes")

    @property
    def gpu_bytes(self) -> float | None:
        """Peak memory of a row made on a GPU, 0 if it never opened it; None if on a CPU."""
        if device_kind(self.row) != "cuda":
            return None
        return _peak(self.row, "peak_gpu_bytes") or 0.0

    @property
    def disk_bytes(self) -> float | None:
        """What the cell left on disk."""
        found: float | None = self.row.provenance.get("disk_bytes")
        return found


def _peak(row: Row, name: str) -> float | None:
    found = [bill.get(name) for bill in row.cost.values()]
    return max((value for value in found if value is not None), default=None)


def spent(row: Row) -> float:
    """Seconds a row took, phases added up."""
    return sum(phase.get("seconds") or 0.0 for phase in row.cost.values())


def history_of(store: Store, device: str, machine: str | None = None) -> list[Known]:
    """The finished rows from which times can be foretold.

    Args:
        store: its own rows, stages, calibration and published rows.
        device: ``cpu`` or ``cuda``; rows made on the other kind do not count.
        machine: part of the name of another machine, whose rows alone count then, as if made here.
    """
    found = [known for known in _all(store, device) if known.row.status == "done"]
    if machine is None:
        return [known for known in found if device_kind(known.row) == device]
    return [Known(known.row, "own rows") for known in found if _made_on(known.row, machine)]


def device_of(store: Store, machine: str) -> str:
    """``cpu`` or ``cuda``: what the rows of a machine ran on.

    Args:
        store: as ``history_of``.
        machine: part of its name.

    Raises:
        ConfigError: no row was made on such a machine; names those there are.
    """
    kinds = [device_kind(known.row) for known in _all(store) if _made_on(known.row, machine)]
    if not kinds:
        there = "; ".join(machines(store)) or "there are no rows at all"
        raise ConfigError(f"--device {machine}: no row was made on such a machine; known: {there}")
    return "cuda" if "cuda" in kinds else "cpu"


def machines(store: Store) -> list[str]:
    """The machines on which rows were made, as rows name them."""
    names = {str(known.row.provenance.get("machine") or "") for known in _all(store)}
    return sorted(filter(None, names))


def _made_on(row: Row, machine: str) -> bool:
    return machine.lower() in str(row.provenance.get("machine", "")).lower()


def _all(store: Store, device: str | None = None) -> Iterator[Known]:
    for home in (store.rows, store.root / "stages"):
        yield from (Known(row, "own rows") for _, row in rows_under(home))
    if device is not None and (calibration := _read_calibration(store, device)):
        yield from (Known(row, "calibration") for row in calibration.rows)
    if store.published:
        yield from (Known(row, "published") for _, row in rows_under(store.published))


def _read_calibration(store: Store, device: str) -> Calibration | None:
    """The calibration of this machine; None if there is none that can be read, which is said.

    Args:
        store: under whose root it is.
        device: ``cpu`` or ``cuda``.
    """
    path = calibration_path(store.root, device)
    try:
        return Calibration.read(path)
    except DamagedError as damage:
        log.warning("%s: %s; ignored, `bench calibrate` makes it again", path, damage.why)
        return None
