"""A dataset in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.types import Dataset


def sizes(data: Dataset) -> str:
    """Rows by part, items and version."""
    split = data.split
    rows = " / ".join(f"{len(part):,}" for part in (split.train, split.valid, split.test))
    return f"{rows} rows (train / valid / test), {data.catalogue.n_items:,} items, {data.version}"
