"""How much work a cell has: its rows after all caps, and what its method says of it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.cell import Cell, Row, Size
from bench.data.load import load_dataset
from bench.method import Method, configure
from bench.registry import methods
from bench.results.source_hash import libraries
from bench.types import Windows

START_SECONDS = 1.0  # what a cell costs before and after its phases, where no row says it


def size_of(cell: Cell, root: Path | None) -> Size:
    """The size of a cell.

    Args:
        cell: the cell.
        root: folder of the data; None for each dataset's own.

    Raises:
        BenchError: its data are not on this machine, or cannot be read.
    """
    split = load_dataset(cell.dataset, root, uncut=cell.uncut).split
    held_out = split.valid if cell.select_on == "valid" else split.test
    return Size(
        train_rows=_capped(cell.train_rows, len(split.train)),
        test_rows=_capped(cell.test_rows, len(split.test)),
        valid_rows=_capped(cell.valid_rows, len(held_out)),
        n_items=split.train.n_items,
        characters=_characters(split.train),
        loss=cell.loss,
        backbone=cell.backbone,
    )


def noted_size(row: Row) -> Size | None:
    """The size of a finished cell as its row states it; None if it does not."""
    noted = row.provenance.get("size")
    return Size(loss=row.cell.loss, backbone=row.cell.backbone, **noted) if noted else None


def to_note(size: Size) -> dict[str, float]:
    """What a row states of its cell's size."""
    return {part: value for part, value in vars(size).items() if part not in ("loss", "backbone")}


def guessed(cell: Cell, size: Size, ranks: int = 1) -> float | None:
    """The method's own estimate of the seconds of a cell's phases; None where it makes none.

    Args:
        cell: the cell.
        size: its size.
        ranks: processes that share its work.

    Raises:
        BenchError: its configuration is not of this version.
    """
    method: type[Method] = methods.get(cell.method)
    own = method.estimate_seconds(configure(method, cell.config, stored=True), size)
    return None if own is None else own / ranks


def rows_of(size: Size) -> float:
    """Training and test rows: the measure of work where a method makes no estimate."""
    return float(size.train_rows + size.test_rows)


def kind_of(cell: Cell) -> str:
    """The kind of work by which machines differ: ``language model``, ``network`` or ``counting``.

    Raises:
        BenchError: nothing is registered under the cell's names.
    """
    found = libraries(cell.method, loss=cell.loss, decoder=cell.decoder, config=cell.config)
    if "transformers" in found:
        return "language model"
    return "network" if found & {"torch", "recbole"} else "counting"


def _capped(cap: int | None, rows: int) -> int:
    return rows if cap is None else min(cap, rows)


@lru_cache(maxsize=8)
def _characters(train: Windows) -> float:
    """Mean length of a training row's titles together, its target's included."""
    length_N = np.array([len(title) for title in train.catalogue.titles])
    return float(length_N[train.sequences.values].sum() / max(len(train), 1))
