"""Gives rows of older versions of the suite the keys that their cells have today.

A row that was made before a configuration had a key, or before cells declared versions, is expanded again
from what it asked: its method, axes, caps and the values in which it departed from the defaults. Numbers stay
as they are, so this is for changes that move no result; where one did, the row is dropped and the cell run
again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.cell import AXES, Cell, Row
from bench.data.load import load_dataset
from bench.errors import BenchError, DataError
from bench.evaluation.strata import strata
from bench.experiment.axes import Axes
from bench.experiment.choice import Choice
from bench.experiment.expansion import Expansion
from bench.experiment.profiles import profile
from bench.experiment.suite import Suite, SuiteRow, scales
from bench.registry import methods
from bench.results.packed import Packed
from bench.results.store import Store
from bench.types import BoolArray

CAPS = ("train_rows", "valid_rows", "test_rows")


@dataclass(frozen=True)
class Outcome:
    """Result of the migration of one row.

    Attributes:
        path: the file it was read from.
        before: its key there.
        row: the row under its new key; None if it could not be expanded.
        why: the reason if it could not, or which of its settings no longer exist.
    """

    path: Path
    before: str
    row: Row | None
    why: str = ""


def migrate(folder: Path, store: Store, *, data_root: Path | None, dry: bool) -> Iterator[Outcome]:
    """Rewrite every row of a folder into a store's rows; a row that cannot be expanded stays as it is.

    Args:
        folder: rows as they are, in any older form.
        store: where they go; its rows may be the same folder.
        data_root: where datasets are; a row's data version has to be the one that is there.
        dry: report only, write nothing.
    """
    for path in sorted(folder.rglob("*.json")):
        raw = json.loads(path.read_text(encoding="utf-8"))
        try:
            row, why = expanded(raw, data_root)
        except BenchError as fault:
            yield Outcome(path, str(raw.get("key", "")), None, " ".join(str(fault).split()))
            continue
        if not dry:
            _replace(path, row, store, data_root)
        yield Outcome(path, str(raw.get("key", "")), row, why)


def _replace(path: Path, row: Row, store: Store, data_root: Path | None) -> None:
    old = path.with_suffix(".npz")
    packed = _packed(old, row.cell, data_root) if old.exists() else None
    written = store.write(row, pack=None if packed is None else packed.save)
    if written.resolve() != path.resolve() and path.is_relative_to(store.rows):
        path.unlink()
        old.unlink(missing_ok=True)


def _packed(path: Path, cell: Cell, data_root: Path | None) -> Packed:
    """A row's positions with the titles of its targets and the strata of today, which need no new run."""
    split = load_dataset(cell.dataset, data_root, uncut=cell.uncut).split
    packed = Packed.load(path).with_targets(split.test.sample(cell.test_rows))
    return replace(packed, masks=_strata(cell.dataset, data_root, cell.uncut, cell.test_rows))


@lru_cache(maxsize=32)
def _strata(
    dataset: str, data_root: Path | None, uncut: bool, test_rows: int | None
) -> Mapping[str, BoolArray]:
    split = load_dataset(dataset, data_root, uncut=uncut).split
    return strata(split.test.sample(test_rows), split)


def expanded(raw: Mapping[str, Any], data_root: Path | None) -> tuple[Row, str]:
    """A row with its cell expanded again, and which of its settings no longer exist.

    Args:
        raw: the row's JSON.
        data_root: where datasets are; None for the default.

    Raises:
        BenchError: its names, its data or its values are not to be had here.
    """
    old = dict(raw["cell"])
    axes = Axes(*(old[axis] for axis in AXES))
    choice = Choice(scale=old["scale"], profile=old["profile"], data_root=data_root)
    # the seeds of one configuration share the search of the first
    seeds = sorted({0, old["seed"]}) if old["tune"] else [old["seed"]]
    suite = Suite(title="one row", datasets=[old["dataset"]], seeds=seeds, rows=[])
    work = Expansion(suite, choice, scales()[choice.scale], profile(choice.profile))
    asked, method = SuiteRow(method=old["method"], tune=old["tune"]), methods.get(old["method"])
    # a cap of its own holds for what it needs too
    if old["train_rows"] != work.train_rows(asked, method.family):
        asked = asked.model_copy(update={"train_rows": old["train_rows"] or "all"})
    usual = work.config(method, asked, axes).as_dict()
    values = _without_modes(old["config"])
    given = {k: v for k, v in values.items() if k in usual and v != usual[k]}
    gone = sorted(set(values) - set(usual))
    cell = work.cell(old["dataset"], old["seed"], asked.model_copy(update={"config": given}), axes)
    cell = replace(cell, **{cap: old[cap] for cap in CAPS}, protocol=old["protocol"])
    _check_data(cell, old["data_version"])
    known = {f.name for f in fields(Row)} - {"cell"}
    row = Row(cell=cell, **{k: v for k, v in raw.items() if k in known})
    if code := old.get("code"):
        row = replace(row, provenance={"code": code, **row.provenance})
    return row, f"no longer there: {', '.join(gone)}" if gone else ""


def _without_modes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a time when a ``mode`` and the word ``auto`` stood for the defaults of today."""
    return {
        key: _without_modes(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key != "mode" and (value != "auto" or key == "dtype")
    }


def _check_data(cell: Cell, version: str) -> None:
    if version != cell.data_version:
        raise DataError(
            f"{cell.name} was made from version {version} of {cell.dataset}, here is "
            f"{cell.data_version}; run the cell again"
        )
