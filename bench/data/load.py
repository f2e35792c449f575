"""A dataset by name, with or without validation cut out of its training rows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from bench.cell import digest
from bench.registry import datasets
from bench.types import Dataset


def load_dataset(name: str, root: Path | None, *, uncut: bool = False) -> Dataset:
    """A dataset by name; kept until ``forget``.

    Args:
        name: as registered.
        root: folder of the window files; None for the usual one.
        uncut: leave the training rows that validation is cut out of whole, as in the released code, which
            chooses on the test rows.

    Raises:
        Unavailable: its files are not on this machine.
        DataError: they are, but cannot be read.
    """
    return _uncut(name, root) if uncut else _read(name, root)


def forget() -> None:
    """Read every dataset anew when it is next asked for."""
    _read.cache_clear()
    _uncut.cache_clear()


@lru_cache(maxsize=8)
def _read(name: str, root: Path | None) -> Dataset:
    found: Dataset = datasets.get(name)(root)
    return found


@lru_cache(maxsize=8)
def _uncut(name: str, root: Path | None) -> Dataset:
    dataset = _read(name, root)
    whole = dataset.split.whole()
    if whole is dataset.split:
        return dataset
    return replace(dataset, version=digest([dataset.version, "uncut"])[:16], split=whole)
