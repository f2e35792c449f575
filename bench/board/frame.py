"""Rows as one flat table for a notebook."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.board.rows import packed_of, read_folders
from bench.cell import Row
from bench.errors import BenchError
from bench.evaluation.metrics import list_names, position_names
from bench.results.cache import Cache
from bench.results.figure_table import read_figures
from bench.results.figures import ITEM, TITLE, VALID, Figures
from bench.results.places import OWN, PUBLISHED, row_folders


def as_frame(folder: str | Path | None = None) -> pd.DataFrame:
    """Rows, one line a row; metrics are computed from the packed files.

    Columns are the cell's fields, ``status``, ``reason``, ``n``, the metrics under title identity by their
    names, and everything else under ``item.``, ``valid.``, a stratum, a phase of cost or ``facts.``.

    Args:
        folder: whose rows; None for one's own and the published ones of which there are no own numbers.

    A file that is not a row, or whose positions are missing or damaged, is left out with a warning.
    """
    folders = row_folders(folder) or [OWN]
    found = read_folders(folders, _warn)
    packed = [packed_of(path) for path, row in found if row.status == "done"]
    figures = read_figures(packed, Cache.beside(folders[0]), _warn)
    lines = []
    for path, row in found:
        if row.status == "done" and packed_of(path) not in figures:
            continue
        theirs = path.is_relative_to(PUBLISHED)
        lines.append({**_line(row, figures.get(packed_of(path))), "published": theirs})
    return pd.DataFrame(lines)


def _warn(fault: BenchError) -> None:
    warnings.warn(str(fault), stacklevel=3)


def _line(row: Row, figures: Figures | None) -> dict[str, Any]:
    cell = {**row.cell.as_dict(), "config": json.dumps(dict(row.cell.config), sort_keys=True)}
    cell.pop("needs")
    line = {"key": row.cell.key, "label": row.cell.label, **cell}
    line |= {"status": row.status, "reason": row.reason, "n": row.n}
    groups: dict[str, Mapping[str, Any]] = {**row.cost, "facts": row.facts}
    if figures is not None:
        line |= _metrics(figures, TITLE) | {name: figures.mean(name) for name in list_names()}
        for part in figures.counts.keys() - {TITLE}:
            groups[part] = _metrics(figures, part)
            if part not in (ITEM, VALID):
                groups[part] = {"n": figures.counts[part].n, **groups[part]}
        if VALID not in groups and row.valid:  # kept by rows whose validation positions were not
            groups[VALID] = row.valid
    for group, values in sorted(groups.items()):
        line |= {f"{group}.{name}": value for name, value in values.items()}
    return {**line, "date": row.provenance.get("date")}


def _metrics(figures: Figures, part: str) -> dict[str, float | None]:
    return {name: figures.mean(name, part) for name in position_names()}
