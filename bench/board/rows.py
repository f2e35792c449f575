"""Reads rows from disk and groups them into tables and their lines.

A board is one protocol, profile, scale and cap on test rows; a table is one dataset of it. Nothing is ever
mixed across these. A line is one configuration, averaged over its seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.board.entry import Entry
from bench.cell import Row
from bench.errors import DamagedError
from bench.results.cache import Cache
from bench.results.figure_table import read_figures
from bench.results.row_damage import check_pair
from bench.results.row_files import Tell, stop
from bench.results.row_files import read_folder as read_folder
from bench.results.table_key import TableKey

LONGEST_MARK = 60  # characters; settings that differ in more are told apart by a hash


def read_folders(folders: Sequence[Path], tell: Tell = stop) -> list[tuple[Path, Row]]:
    """The rows of the first folder and, of each further one, those of configurations without numbers so far.

    No configuration's numbers are then of two folders.

    Args:
        folders: one's own rows before published ones.
        tell: hears of files that are left out; see ``read_folder``.

    Raises:
        DataError: a file is left out, unless ``tell`` lets it pass.
    """
    found: list[tuple[Path, Row]] = []
    for folder in folders:
        answered = {_line_of(row) for _, row in found if row.status == "done"}
        found += [pair for pair in read_folder(folder, tell) if _line_of(pair[1]) not in answered]
    return found


def with_published(rows: Path, published: Path, tell: Tell = stop) -> list[tuple[Path, Row]]:
    """The rows of a folder, and the published ones of the same tables; see ``read_folders``.

    Args:
        rows: folder of one's own rows.
        published: folder of the published ones.
        tell: hears of files that are left out.
    """
    found = read_folders([rows, published], tell)
    tables = {TableKey.of(row.cell) for path, row in found if not path.is_relative_to(published)}

    def shown(row: Row) -> bool:
        table = TableKey.of(row.cell)
        return table in tables or replace(table, data_version="") in tables

    return [(path, row) for path, row in found if shown(row)]


def _line_of(row: Row) -> tuple[TableKey, str]:
    return TableKey.of(row.cell), replace(row.cell, seed=0).slot


def load_rows(folder: str | Path) -> list[Row]:
    """Every row under a folder; failed and left-out ones too.

    Raises:
        DataError: a file is not a row, or two files hold one; names them.
    """
    return [row for _, row in read_folder(Path(folder))]


def tables_of(
    found: Iterable[tuple[Path, Row]],
    cache: Cache | None = None,
    published: Path | None = None,
    tell: Tell = stop,
) -> dict[TableKey, list[Entry]]:
    """Rows by table, then by configuration, everything in a fixed order.

    Cells whose dataset could not be had join the one table of that dataset, if there is one.

    Args:
        found: rows with their files.
        cache: where figures of an earlier call may lie; None to compute them.
        published: folder of the rows that are marked as published; None for none.
        tell: hears of finished rows that are left out, as their positions are missing or damaged.

    Raises:
        ArtefactError: there is such a row, unless ``tell`` lets it pass.
    """
    found = list(found)
    done = [(packed_of(path), row) for path, row in found if row.status == "done"]
    figures = read_figures(
        [p for p, row in done if _is_paired(p, row, tell)], cache or Cache(None), tell
    )
    found = [(p, row) for p, row in found if row.status != "done" or packed_of(p) in figures]
    seeds: dict[tuple[TableKey, str, bool], list[tuple[Path, Row]]] = {}
    versions: dict[TableKey, set[str]] = {}
    for _, row in found:
        table = TableKey.of(row.cell)
        versions.setdefault(replace(table, data_version=""), set()).add(table.data_version)
    for path, row in found:
        table = TableKey.of(row.cell)
        known = versions[replace(table, data_version="")] - {""}
        if not table.data_version and len(known) == 1:
            table = replace(table, data_version=next(iter(known)))
        question = replace(row.cell, seed=0).slot
        theirs = published is not None and path.is_relative_to(published)
        seeds.setdefault((table, question, theirs), []).append((path, row))
    tables: dict[TableKey, list[Entry]] = {}
    for (table, _, theirs), files in seeds.items():
        files.sort(key=lambda pair: pair[1].cell.seed)
        paths = tuple(packed_of(path) for path, row in files if row.status == "done")
        rows = tuple(row for _, row in files)
        numbers = tuple(figures[path] for path in paths)
        entry = Entry(rows, paths, numbers, published=theirs)
        tables.setdefault(table, []).append(entry)
    return {table: _told_apart(tables[table]) for table in sorted(tables, key=_order)}


def _is_paired(packed: Path, row: Row, tell: Tell) -> bool:
    """Whether the positions are those of the row beside them."""
    try:
        check_pair(packed, row.provenance)
    except DamagedError as damage:
        tell(damage)
        return False
    except OSError:
        return True  # what is missing is told when it is read
    return True


def packed_of(path: Path) -> Path:
    """The packed file beside a row."""
    return path.with_suffix(".npz")


def _order(table: TableKey) -> tuple[str, str, str]:
    return table.board, table.dataset, table.data_version


def _told_apart(entries: list[Entry]) -> list[Entry]:
    """Entries, each with the settings in which it differs from others of the same name as its mark."""

    def shown(entry: Entry) -> tuple[str, str | None, str | None, str | None]:
        return entry.name, entry.cell.loss, entry.cell.decoder, entry.cell.backbone

    twins: dict[tuple[str, str | None, str | None, str | None], list[Entry]] = {}
    for entry in entries:
        twins.setdefault(shown(entry), []).append(entry)
    marks = {id(e): _mark(e, twins[shown(e)]) for e in entries if len(twins[shown(e)]) > 1}
    return [replace(e, mark=marks[id(e)]) if id(e) in marks else e for e in entries]


def _mark(entry: Entry, twins: Sequence[Entry]) -> str:
    """The settings that not all twins share, e.g. ``lr=0.001``; the question's hash if they are too long.

    A setting that was added after other rows were made is not written where it is the usual one.
    """
    every = [_settings(twin) for twin in twins]
    own, keys = _settings(entry), sorted({key for settings in every for key in settings})
    differing = [key for key in keys if len({repr(s.get(key)) for s in every}) > 1]
    told = ", ".join(f"{key}={own[key]}" if key in own else f"usual {key}" for key in differing)
    return told if told and len(told) <= LONGEST_MARK else entry.question[:6]


def _settings(entry: Entry) -> dict[str, Any]:
    """Configuration and row caps, nested values under dotted names."""
    caps = {"train_rows": entry.cell.train_rows, "valid_rows": entry.cell.valid_rows}
    flat: dict[str, Any] = {}
    todo: list[tuple[str, Any]] = list({**entry.cell.config, **caps}.items())
    while todo:
        name, value = todo.pop()
        if isinstance(value, Mapping):
            todo += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            flat[name] = value
    return flat
