"""Reading rows from their JSON files, which may be anybody's."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench.cell import Row
from bench.disk.sealed import KEY, check_seal
from bench.errors import BenchError, DataError
from bench.results.row_schema import parse
from bench.text.plain import one_line

Tell = Callable[[BenchError], None]  # hears of a file that is left out
MAX_BYTES = 4 << 20  # of a row's file; the largest of the published ones has 5 KB


def read_row(path: Path) -> Row:
    """One row from its file.

    Raises:
        DataError: the file is not a row, e.g. a merge conflict in it; names the field, its value and what is
            allowed there.
        OSError: it cannot be read.
    """
    try:
        content = _content(path)
        row = Row.from_dict(parse(content))
        if KEY.encode() in content:  # rows of an earlier make have no seal
            check_seal(json.loads(content))
        return row
    except ValueError as fault:
        raise DataError(
            f"{one_line(str(path))}: not a row: {one_line(str(fault))}; delete it or restore it from git"
        ) from fault


def stored_key(path: Path) -> str | None:
    """The key that a row's file states beside its cell; None if it states none.

    Raises:
        ValueError: the file is not a row.
    """
    key: str | None = parse(_content(path)).get("key")
    return key


def _content(path: Path) -> bytes:
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("no regular file")
    if state.st_size > MAX_BYTES:
        raise ValueError(f"{state.st_size:,} bytes, the most is {MAX_BYTES:,}")
    return path.read_bytes()


def stop(fault: BenchError) -> None:
    """Hear of a file that cannot be read, and stop there.

    Raises:
        BenchError: the fault.
    """
    raise fault


def read_folder(folder: Path, tell: Tell = stop) -> list[tuple[Path, Row]]:
    """Every row under a folder with its file, in the order of their names.

    Args:
        folder: of rows.
        tell: hears of each file that is left out: it is not a row, or it asks the same of the same data as
            another; a copy, or an answer of older code, would count as another seed.

    Raises:
        DataError: there is such a file, unless ``tell`` lets it pass.
    """
    found: list[tuple[Path, Row]] = []
    seen: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.rglob("*.json")):
        if path.name.startswith("."):
            continue  # being written
        try:
            row = read_row(path)
        except DataError as fault:
            tell(fault)
            continue
        except OSError as fault:
            tell(DataError(f"{one_line(str(path))}: cannot be read ({fault.strerror})"))
            continue
        first = seen.setdefault((row.cell.slot, row.cell.data_version), path)
        if first == path:
            found.append((path, row))
        else:
            both = " and ".join(one_line(str(file)) for file in (first, path))
            tell(DataError(f"{both} both hold {row.cell.name}; delete one of them"))
    return found


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
