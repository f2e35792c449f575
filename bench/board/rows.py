"""Rows on disk to boards in memory: what belongs in one table, and what is one line of it.

A board is one protocol, profile, scale and cap on test rows; a table is one dataset of it. Nothing is ever
mixed across these. A line is one configuration, averaged over its seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.cell import HEADLINE, Cell, Row
from bench.errors import DataError
from bench.evaluation.metrics import gains, luck
from bench.results.packed import Packed
from bench.results.store import read_row
from bench.results.table_key import TableKey
from bench.significance.bootstrap import by_seed
from bench.types import FloatArray, IntArray

LONGEST_MARK = 60  # characters; settings that differ in more are told apart by a hash
FAMILIES = ("floor", "traditional", "enhanced", "llm")


@dataclass(frozen=True, eq=False)
class Entry:
    """One configuration in one table.

    Attributes:
        rows: its rows, one a seed, by seed.
        packed: positions of those that are done, in the same order.
    """

    rows: tuple[Row, ...]
    packed: tuple[Packed, ...] = ()
    mark: str = ""

    @property
    def cell(self) -> Cell:
        """The cell of the first seed."""
        return self.rows[0].cell

    @cached_property
    def done(self) -> tuple[Row, ...]:
        """The rows that have numbers."""
        return tuple(row for row in self.rows if row.status == "done")

    @property
    def question(self) -> str:
        """Hash of what is asked, whatever the dataset and the seed: one configuration, one question."""
        return replace(self.cell, dataset="", seed=0).slot

    @property
    def mixed(self) -> bool:
        """Whether its seeds were made by different code."""
        return len({row.provenance.get("code") for row in self.done}) > 1

    @property
    def family(self) -> str:
        """Declared by the method; ``unknown`` if its row could not tell."""
        return str(self.rows[0].facts.get("family", "unknown"))

    @property
    def name(self) -> str:
        """The method as tables show it, with what sets this configuration apart."""
        row = self.rows[0]
        title = str(row.facts.get("title") or row.cell.method)
        extra = [str(row.facts.get("variant") or ""), self.mark, "tuned" if self.tuned else ""]
        extra = [word for word in extra if word]
        return f"{title} ({', '.join(extra)})" if extra else title

    @property
    def full_name(self) -> str:
        """Name with loss and decoder, for plots."""
        cell = self.cell
        loss = f" + {cell.loss}" if cell.loss else ""
        return f"{self.name}{loss}{f' / {cell.decoder}' if cell.decoder else ''}"

    @property
    def tuned(self) -> bool:
        """Whether its configuration was searched for on validation."""
        return bool(self.cell.tune or self.rows[0].facts.get("tuned"))

    @property
    def status(self) -> str:
        """``done``, or what is wrong and why, seeds that lack included."""
        lacking = [row for row in self.rows if row.status != "done"]
        if not lacking:
            return "done"
        first = lacking[0]
        text = f"{first.status}: {first.reason}"
        return f"{len(lacking)} of {len(self.rows)} seeds {text}" if self.done else text

    @cached_property
    def gain_SQ(self) -> FloatArray:
        """NDCG@10 by seed and query, under title identity."""
        return by_seed([gains(packed.title)[HEADLINE] for packed in self.packed])

    @cached_property
    def luck(self) -> float:
        """Variance of the mean NDCG@10 over draws of random lists, 0 if it draws none."""
        return float(np.mean([luck(packed.title)[HEADLINE] for packed in self.packed]))

    @property
    def user_Q(self) -> IntArray:
        """Whose query it is."""
        return self.packed[0].user_Q

    def mean(self, part: str, name: str) -> float | None:
        """Mean over seeds of one number of the rows: ``metrics``, ``valid`` or a stratum."""
        found = []
        for row in self.done:
            home = row.strata.get(part, {}) if part in row.strata else getattr(row, part, {})
            value = home.get(name) if isinstance(home, Mapping) else None
            if value is None or home.get("n") == 0:
                return None
            found.append(float(value))
        return sum(found) / len(found) if found else None


def read_folder(folder: Path) -> list[tuple[Path, Row]]:
    """Every row under a folder with its file, in the order of their names.

    Raises:
        DataError: a file is not a row, or two files ask the same of the same data: a copy, or an answer
            of older code, would count as another seed.
    """
    found: list[tuple[Path, Row]] = []
    seen: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.rglob("*.json")):
        if path.name.startswith("."):
            continue  # being written
        row = read_row(path)
        first = seen.setdefault((row.cell.slot, row.cell.data_version), path)
        if first != path:
            raise DataError(f"{first} and {path} both hold {row.cell.label}; delete one of them")
        found.append((path, row))
    return found


def load_rows(folder: str | Path) -> list[Row]:
    """Every row under a folder; failed and left-out ones too.

    Raises:
        DataError: a file is not a row, or two files hold one; names them.
    """
    return [row for _, row in read_folder(Path(folder))]


def as_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a flat table, one line a row.

    Columns are the cell's fields, ``status``, ``reason``, ``n``, the metrics under title identity by their
    names, and everything else under ``item.``, ``valid.``, a stratum, a phase of cost or ``facts.``.
    """
    lines = []
    for row in rows:
        cell = {**row.cell.as_dict(), "config": json.dumps(dict(row.cell.config), sort_keys=True)}
        cell.pop("needs")
        line = {"key": row.cell.key, "label": row.cell.label, **cell}
        line |= {"status": row.status, "reason": row.reason, "n": row.n, **row.metrics}
        groups: dict[str, Mapping[str, Any]] = {
            "item": row.metrics_by_item,
            "valid": row.valid,
            **row.strata,
            **row.cost,
            "facts": row.facts,
        }
        for group, values in groups.items():
            line |= {f"{group}.{name}": value for name, value in values.items()}
        line["date"] = row.provenance.get("date")
        lines.append(line)
    return pd.DataFrame(lines)


def tables_of(found: Iterable[tuple[Path, Row]]) -> dict[TableKey, list[Entry]]:
    """Rows by table, then by configuration, everything in a fixed order.

    Cells whose dataset could not be had join the one table of that dataset, if there is one.

    Raises:
        ArtefactError: the positions of a finished row are missing or damaged.
    """
    seeds: dict[tuple[TableKey, str], list[tuple[Path, Row]]] = {}
    versions: dict[TableKey, set[str]] = {}
    found = list(found)
    for _, row in found:
        table = TableKey.of(row.cell)
        versions.setdefault(replace(table, data_version=""), set()).add(table.data_version)
    for path, row in found:
        table = TableKey.of(row.cell)
        known = versions[replace(table, data_version="")] - {""}
        if not table.data_version and len(known) == 1:
            table = replace(table, data_version=next(iter(known)))
        question = replace(row.cell, seed=0).slot
        seeds.setdefault((table, question), []).append((path, row))
    tables: dict[TableKey, list[Entry]] = {}
    for (table, _), files in seeds.items():
        files.sort(key=lambda pair: pair[1].cell.seed)
        packed = [Packed.load(p.with_suffix(".npz")) for p, row in files if row.status == "done"]
        entry = Entry(tuple(row for _, row in files), tuple(packed))
        tables.setdefault(table, []).append(entry)
    return {table: _told_apart(tables[table]) for table in sorted(tables, key=lambda p: _order(p))}


def _order(table: TableKey) -> tuple[str, str, str]:
    return table.board, table.dataset, table.data_version


def _told_apart(entries: list[Entry]) -> list[Entry]:
    """Entries with a mark where their names alone would be the same: in what their settings differ."""

    def shown(entry: Entry) -> tuple[str, str | None, str | None, str | None]:
        return entry.name, entry.cell.loss, entry.cell.decoder, entry.cell.backbone

    twins: dict[tuple[str, str | None, str | None, str | None], list[Entry]] = {}
    for entry in entries:
        twins.setdefault(shown(entry), []).append(entry)
    marks = {id(e): _mark(e, twins[shown(e)]) for e in entries if len(twins[shown(e)]) > 1}
    return [replace(e, mark=marks[id(e)]) if id(e) in marks else e for e in entries]


def _mark(entry: Entry, twins: Sequence[Entry]) -> str:
    """The settings that not all twins share, e.g. ``lr=0.001``; the question's hash if there are none."""
    every = [_settings(twin) for twin in twins]
    own, keys = _settings(entry), sorted({key for settings in every for key in settings})
    differing = [key for key in keys if len({repr(s.get(key)) for s in every}) > 1]
    told = ", ".join(f"{key}={own[key]}" for key in differing if key in own)
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
