"""A calibration: the rows of a few short cells, run on this machine to learn how fast it is."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cell import Row
from bench.disk.sealed import read_note, write_note
from bench.errors import DamagedError
from bench.results.row_schema import parse


@dataclass(frozen=True)
class Calibration:
    """What the cells took, and where.

    Attributes:
        machine: as rows name it.
        device: ``cpu`` or ``cuda``.
        date: when it was made, in UTC.
        torch: version of torch.
        rows: the finished cells.
    """

    machine: str
    device: str
    date: str
    torch: str
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, rows: list[Row]) -> Calibration:
        """The calibration that consists of some finished rows, at least one."""
        made = rows[-1].provenance
        return cls(
            machine=made["machine"],
            device=device_kind(rows[-1]),
            date=made["date"],
            torch=(made.get("versions") or {}).get("torch", ""),
            rows=tuple(rows),
        )

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {name: getattr(self, name) for name in _TEXTS}
        write_note(path, {**facts, "rows": [row.as_dict() for row in self.rows]})

    @classmethod
    def read(cls, path: Path) -> Calibration | None:
        """What ``write`` wrote; None if there is none.

        Raises:
            DamagedError: the file is not as it was written, or of another make.
        """
        try:
            note = read_note(path)
            rows = [Row.from_dict(parse(json.dumps(row).encode())) for row in note["rows"]]
            return cls(**{name: str(note[name]) for name in _TEXTS}, rows=tuple(rows))
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError) as fault:
            raise DamagedError(path, "not a calibration of this version") from fault


_TEXTS = ("machine", "device", "date", "torch")


def calibration_path(root: Path, device: str) -> Path:
    """Where the calibration of this machine is.

    Args:
        root: of the run store, which several machines may share.
        device: ``cpu`` or ``cuda``.
    """
    name = re.sub(r"\W+", "-", platform.node()) or "machine"
    return root / "calibration" / f"{name}-{device}.json"


def device_kind(row: Row) -> str:
    """``cpu`` or ``cuda``, where a row was made; empty if it does not say."""
    return str(row.provenance.get("device", "")).partition(":")[0]
