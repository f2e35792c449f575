"""One finished or unfinished row by what people call it: a label, a label with its key, a key, a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.cell import Cell, Row
from bench.errors import UnknownName
from bench.results.row_files import read_row, rows_under
from bench.results.store import Store

LEAST = 6  # hex digits of a key that name a cell
SHOWN = 20


@dataclass(frozen=True)
class Found:
    """A row with the file that it is in.

    Attributes:
        path: the JSON file; its packed positions lie beside it.
        row: what is in it.
    """

    path: Path
    row: Row

    @property
    def cell(self) -> Cell:
        """The cell that the row answers."""
        return self.row.cell


def find(text: str, store: Store) -> Found:
    """The one row that a text names, own rows before published ones.

    A label without a key means the usual protocol (profile ``corrected``) where several profiles have it.

    Args:
        text: a name as it is printed (``book/sasrec+ce#0@1f0c9a``), a label, a part of one, a key or its
            first six digits, or the path of a row's file.
        store: where rows are.

    Raises:
        UnknownName: nothing is called so, or several rows are; lists them by names that are unique.
    """
    if text.endswith(".json") and Path(text).is_file():
        return Found(Path(text), read_row(Path(text)))
    every = list(rows_of(store))
    near = list({one.cell.key: one for one in reversed(matching(text, every))}.values())[::-1]
    if len(near) > 1 and "@" not in text:
        near = [one for one in near if one.cell.profile == "corrected"] or near
    if len(near) == 1:
        return near[0]
    what = f"names {len(near)} rows" if near else "names no row"
    listed = near or every
    lines = [
        f"{one.cell.name}  {one.cell.scale} {one.cell.profile}, {one.row.n:,} test rows, {one.row.status}"
        for one in listed
    ]
    more = [f"... {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    there = "\n  ".join([*lines[:SHOWN], *more]) or "none; `bench run` makes some"
    raise UnknownName(f"{text!r} {what}; give the name with its key. There are:\n  {there}")


def matching(text: str, rows: list[Found]) -> list[Found]:
    """The rows that a text can mean: those with that key, else that label, else a part of it."""
    label, at, key = text.rpartition("@")
    if at and re.fullmatch("[0-9a-f]+", key):
        rows = [one for one in rows if one.cell.key.startswith(key)]
        return [one for one in rows if label in ("", one.cell.label)]
    if len(text) >= LEAST and re.fullmatch("[0-9a-f]+", text):
        keyed = [one for one in rows if one.cell.key.startswith(text)]
        if keyed:
            return keyed
    exact = [one for one in rows if text in (one.cell.label, one.cell.label.rpartition("#")[0])]
    return exact or [one for one in rows if text in one.cell.label]


def rows_of(store: Store) -> Iterator[Found]:
    """Own rows, then published ones; where both have a cell, both are there."""
    for folder in (store.rows, store.root / "stages", store.published):
        for path, row in rows_under(folder) if folder is not None and folder.is_dir() else ():
            yield Found(path, row)
