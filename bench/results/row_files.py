"""Reading rows from their JSON files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

from bench.cell import Row, Status
from bench.disk.sealed import check_seal
from bench.errors import DataError


def read_row(path: Path) -> Row:
    """One row from its file.

    Raises:
        DataError: the file is not a row, e.g. a merge conflict in it.
        OSError: it cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        check_seal(data)
        row = Row.from_dict(data)
        _check_shape(row)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        said = f"{type(fault).__name__}: {fault}"
        raise DataError(f"{path}: not a row ({said}); delete it or restore it from git") from fault
    return row


def _check_shape(row: Row) -> None:
    if row.status not in get_args(Status):
        raise ValueError(f"status {row.status!r}")
    mappings = {name: getattr(row, name) for name in ("valid", "cost", "facts", "provenance")}
    mappings |= {"config": row.cell.config, "needs": row.cell.needs}
    mappings |= {f"cost.{phase}": bill for phase, bill in mappings["cost"].items()}
    for name, value in mappings.items():
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} is {value!r}, not a mapping")


def rows_under(folder: Path) -> Iterator[tuple[Path, Row]]:
    """Every row under a folder with its file, sorted by name; files that are no rows are skipped."""
    return readable(folder.rglob("*.json"))


def readable(paths: Iterable[Path]) -> Iterator[tuple[Path, Row]]:
    """The rows among some files, sorted by name; files that are no rows are skipped.

    ``bench board`` reports broken files; a run or a plan must not stop at them.
    """
    for path in sorted(paths):
        if not path.name.startswith("."):
            with contextlib.suppress(DataError, OSError):
                yield path, read_row(path)
