"""What the paper's tables and figures are made of: lines of the boards, records of trainings, tries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.board.entry import Entry
from bench.board.leaderboard import ours_of
from bench.board.rows import read_folders, tables_of
from bench.cell import Cell, Row, digest
from bench.claims import TEST_ROWS, Finding, Ours, ledger
from bench.errors import DataError
from bench.results.cache import Cache
from bench.results.places import PUBLISHED
from bench.results.row_files import Tell, stop

MICROSCOPE = "microscope"  # the fact with the record of a training
LOSSES = "loss_options"


@dataclass(frozen=True)
class Line:
    """One finished configuration with its metrics, scored as the paper does."""

    entry: Entry
    metrics: Mapping[str, Ours]

    @property
    def cell(self) -> Cell:
        """The cell of the first seed."""
        return self.entry.cell

    @property
    def row(self) -> Row:
        """The row of the first seed."""
        return self.entry.done[0]

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of its loss."""
        return dict(self.cell.config.get(LOSSES) or {})

    @cached_property
    def setting(self) -> str:
        """Hash of all that two lines have to share so that their losses can be compared, 8 hex digits."""
        config = {key: value for key, value in self.cell.config.items() if key != LOSSES}
        cell = replace(self.cell, loss=None, config=config, seed=0, needs={}, versions={})
        return digest([cell.slot, self.cell.data_version])[:8]

    @property
    def where(self) -> str:
        """Dataset, method, backbone and size, e.g. ``office, bigrec on scratch, 10,000 rows``."""
        cell = self.cell
        rows = "all" if cell.train_rows is None else f"{cell.train_rows:,}"
        backbone = f" on {cell.backbone}" if cell.backbone else ""
        return f"{cell.dataset}, {cell.method}{backbone}, {rows} rows, {cell.scale} {cell.profile}"

    @property
    def looks(self) -> list[Mapping[str, Any]]:
        """What the microscope saw, look after look; empty without a record."""
        return self._recorded("looks")

    @property
    def course(self) -> list[Mapping[str, Any]]:
        """What the loss said of itself, step after step; empty without a record."""
        return self._recorded("course")

    def _recorded(self, part: str) -> list[Mapping[str, Any]]:
        return list((self.row.facts.get(MICROSCOPE) or {}).get(part, ()))


@dataclass(frozen=True)
class Evidence:
    """Everything that is known.

    Attributes:
        lines: finished lines on the paper's datasets.
        tries: by dataset, its statistics with Llama 3's tokenizer (``bench paper --tries``).
    """

    lines: Sequence[Line] = ()
    tries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def findings(self) -> list[Finding]:
        """Every published number against ours."""
        return ledger((line.cell, line.metrics) for line in self.lines)

    @cached_property
    def settings(self) -> dict[str, list[Line]]:
        """Lines with a loss over tokens that differ in their loss alone, by setting."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            if line.cell.backbone and line.cell.loss:
                found.setdefault(line.setting, []).append(line)
        return dict(sorted(found.items(), key=lambda pair: (pair[1][0].where, pair[0])))


def gather(folders: Sequence[Path], tries: Path) -> Evidence:
    """Read rows and the record of the tries.

    Args:
        folders: one's own rows before published ones.
        tries: file of the statistics; need not exist.

    Raises:
        DataError: a file cannot be read as what it should be.
    """
    lines: list[Line] = []
    for done in finished(folders):
        lines += [Line(*pair) for pair in zip(done, ours_of(done), strict=True)]
    return Evidence(lines, read_tries(tries))


def finished(folders: Sequence[Path], tell: Tell = stop) -> list[list[Entry]]:
    """The finished lines on the paper's datasets, table by table.

    Args:
        folders: one's own rows before published ones; those that are missing are passed over.
        tell: hears of files that are left out; by default the first of them is an error.

    Raises:
        DataError: a file is not a row, or two files of a folder hold one, unless ``tell`` lets it pass.
    """
    folders = [folder for folder in folders if folder.is_dir()]
    if not folders:
        return []
    pairs = [pair for pair in read_folders(folders, tell) if pair[1].cell.dataset in TEST_ROWS]
    tables = tables_of(pairs, Cache.beside(folders[0]), PUBLISHED, tell).values()
    return [done for entries in tables if (done := [entry for entry in entries if entry.figures])]


def read_tries(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Statistics of the tries by dataset; empty if they were not measured.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except ValueError as fault:
        raise DataError(f"{path}: not what --tries writes; delete it and measure again") from fault
