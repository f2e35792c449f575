"""The published window files: ``user_id,item_ids,timestamp``, one row a window.

``item_ids`` is a list literal, oldest first, the last one the target. Files are read whole or refused:
every fault is a ``DataError`` with the file, the line and the repair. Plain or gzip, told by content.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.data.files import read_text, row_error, short
from bench.data.formats.titles import MAX_ID, Titles
from bench.errors import DataError
from bench.types import IntArray, Ragged, Windows

OnMissingTitle = Literal["error", "drop_history"]
COLUMNS = ("user_id", "item_ids", "timestamp")

_LIST = re.compile(r"\[ *([1-9][0-9]{0,8}(?: *, *[1-9][0-9]{0,8})+) *\]")
_USER = re.compile(r"[0-9]{1,18}")
_TIME = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, eq=False)
class _Cells:
    """The three columns as text, and the line on which each row ends."""

    path: Path
    users: list[str]
    lists: list[str]
    times: list[str]
    line_W: list[int]

    def error(self, row: int, fault: str) -> DataError:
        return row_error(self.path, self.line_W[row], fault)


def read_windows(
    path: Path, titles: Titles, *, on_missing_title: OnMissingTitle = "error"
) -> tuple[Windows, tuple[str, ...]]:
    """Read a window file in file order. Further columns are ignored.

    Args:
        path: the CSV file, plain or gzip.
        titles: the items.
        on_missing_title: what to do with a history item that has no title: refuse the file, or drop
            the item with a count. A target without a title is always refused.

    Returns:
        The rows, and notes on what was dropped.

    Raises:
        DataError: with the line, at the first row that is not ``int,[id, ..., id],int`` with two ids or
            more, at an id without a title, or at a file without rows.
    """
    text = read_text(path)
    cells = _cells(path, text)
    values, length_W = _parse(cells)
    n_rows = len(length_W)
    last_W = np.cumsum(length_W) - 1
    owner = np.repeat(np.arange(n_rows), length_W)
    is_target = np.zeros(len(values), bool)
    is_target[last_W] = True
    mapped = titles.lookup(values)
    missing = (mapped == 0) & (is_target | (on_missing_title == "error"))
    if missing.any():
        first = int(np.argmax(missing))
        role = "target" if is_target[first] else "history item"
        hint = "" if is_target[first] else ', or read with on_missing_title="drop_history"'
        raise cells.error(
            owner[first], f"{role} {values[first]} has no title; add it to the titles{hint}"
        )
    inside = (mapped > 0) & ~is_target
    kept_W = np.bincount(owner[inside], minlength=n_rows)
    if (kept_W == 0).any():
        fault = "no item of the history has a title; remove the row"
        raise cells.error(int(np.argmin(kept_W)), fault)
    history = Ragged(mapped[inside], np.concatenate([[0], np.cumsum(kept_W)]))
    user_W, timestamp_W = np.array(cells.users, np.int64), np.array(cells.times, np.int64)
    notes = []
    if dropped := int((mapped == 0).sum()):
        notes.append(f"{path.name}: {dropped} history items without a title are dropped")
    if not text.endswith(("\n", "\r")):
        line = cells.line_W[-1]
        notes.append(
            f"{path.name} ends within line {line}; if it was cut off there, its last row is not whole"
        )
    windows = Windows(titles.catalogue, user_W, history, mapped[last_W], timestamp_W)
    return windows, tuple(notes)


def _parse(cells: _Cells) -> tuple[IntArray, IntArray]:
    """All ids end to end and the length of each row, after every cell has been checked."""
    matches = [_LIST.fullmatch(cell) for cell in cells.lists]
    for row, found in enumerate(matches):
        if found is None:
            raise cells.error(row, _list_fault(cells.lists[row]))
    for name, pattern, column in (
        ("user_id", _USER, cells.users),
        ("timestamp", _TIME, cells.times),
    ):
        bad = next((r for r, cell in enumerate(column) if not pattern.fullmatch(cell)), None)
        if bad is not None:
            raise cells.error(bad, f"{name} {short(column[bad])} is not a whole number")
    flat = ",".join(found[1] for found in matches if found is not None)
    values = np.fromstring(flat, np.int64, sep=",")
    length_W = np.fromiter((cell.count(",") + 1 for cell in cells.lists), np.int64)
    assert len(values) == length_W.sum(), "the pattern lets only integers pass"
    return values, length_W


def _cells(path: Path, text: str) -> _Cells:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        wrong = [name for name in COLUMNS if header.count(name) != 1]
        if wrong:
            raise row_error(
                path,
                1,
                f"the header must have {', '.join(COLUMNS)} once each; {', '.join(wrong)} "
                f"is missing or doubled in {short(','.join(header))}",
            )
        rows, lines = [], []
        for row in reader:
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise row_error(path, reader.line_num, f"not CSV ({error})") from error
    if not rows:
        raise DataError(f"{path}: no rows below the header")
    odd = next((r for r, row in enumerate(rows) if len(row) != len(header)), None)
    if odd is not None:
        raise row_error(path, lines[odd], f"{len(rows[odd])} columns, the header has {len(header)}")
    user, ids, time = (header.index(name) for name in COLUMNS)
    users, lists, times = ([row[c].strip() for row in rows] for c in (user, ids, time))
    return _Cells(path, users, lists, times, lines)


def _list_fault(cell: str) -> str:
    """Why a cell is not a list of two or more ids; the slow path, for the message alone."""
    body = cell.strip()
    if not (body.startswith("[") and body.endswith("]")):
        return f"item_ids {short(cell)} is not a list like [3, 14, 15]"
    parts = [part.strip() for part in body[1:-1].split(",")] if body[1:-1].strip() else []
    for part in parts:
        if not re.fullmatch(r"-?[0-9]+", part):
            return f"{short(part)} in item_ids is not an integer"
        if len(part) > 10 or not 1 <= int(part) <= MAX_ID:
            return f"item id {short(part)} is not in 1..{MAX_ID}"
        if part.startswith("0"):
            return f"item id {short(part)} has a leading zero"
    if len(parts) < 2:
        return f"a window needs a history and a target, got {len(parts)} items"
    return f"item_ids {short(cell)} must be one line of ids, commas and spaces"


def write_windows(path: Path, windows: Windows) -> None:
    """Write rows in the published form, so that ``read_windows`` gives them back."""
    lines = ["user_id,item_ids,timestamp\n"]
    for user, row, time in zip(windows.user_W, windows.sequences, windows.timestamp_W, strict=True):
        lines.append(f'{user},"{row.tolist()}",{time}\n')
    path.write_text("".join(lines), encoding="utf-8", newline="")
