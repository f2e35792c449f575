"""What of a row on disk is not as it was written: its JSON file, or the positions beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.disk.sealed import SEAL, read_sealed
from bench.errors import DamagedError, DataError
from bench.results.row_files import read_row

MEND = "`bench run` makes its cell again; a published row is restored from git"
POSITIONS = "positions"  # in a row's provenance: the seal of the file beside it


def damage_of(path: Path) -> Iterator[DamagedError]:
    """What is to be set aside before a row can be made again; nothing for a whole row, or none.

    Args:
        path: the row's JSON file.
    """
    try:
        row = read_row(path)
    except FileNotFoundError:
        return
    except (DataError, OSError):
        empty = path.is_file() and not path.stat().st_size
        yield DamagedError(path, "the row is empty" if empty else "the row cannot be read")
        return
    beside = path.with_suffix(".npz")
    try:
        if beside.exists():
            read_sealed(beside)
        check_pair(beside, row.provenance)
    except DamagedError as damage:
        yield damage


def check_pair(beside: Path, provenance: Mapping[str, Any]) -> None:
    """Refuse positions that are missing, or whole and another row's; older rows do not name their own.

    Args:
        beside: the packed file.
        provenance: of its row.

    Raises:
        DamagedError: says which.
    """
    named = provenance.get(POSITIONS)
    if named is not None and not beside.exists():
        raise DamagedError(beside, "the positions are missing", MEND)
    if named is not None and named != seal_beside(beside):
        raise DamagedError(beside, "the positions are not those of the row beside them", MEND)


def seal_beside(beside: Path) -> str:
    """The seal at the end of a packed file."""
    return beside.read_bytes()[-SEAL:].decode("ascii", "replace")
