"""The key of a table. Tables, ranks and comparisons with the paper never mix rows of two keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bench.cell import Cell


@dataclass(frozen=True)
class TableKey:
    """Everything that all rows of a table have in common.

    Attributes:
        test_rows: cap on the test rows, None for all.
        data_version: empty for cells whose dataset could not be had.
    """

    scale: str
    profile: str
    protocol: str
    test_rows: int | None
    dataset: str
    data_version: str

    @property
    def board(self) -> str:
        """Name of the board, also of its folder: ``small-corrected-protocol1``."""
        cap = f"-{self.test_rows}rows" if self.test_rows else ""
        return f"{self.scale}-{self.profile}-protocol{self.protocol}{cap}"

    @classmethod
    def of(cls, cell: Cell) -> TableKey:
        """The key of the table that a cell belongs to."""
        return cls(
            cell.scale,
            cell.profile,
            cell.protocol,
            cell.test_rows,
            cell.dataset,
            cell.data_version,
        )


def names(keys: Iterable[TableKey]) -> dict[TableKey, str]:
    """The dataset of each key, as ``office@01234567`` where its board holds two versions of it."""
    every = set(keys)
    versions = Counter((key.board, key.dataset) for key in every)
    return {
        key: key.dataset
        if versions[key.board, key.dataset] == 1
        else f"{key.dataset}@{key.data_version[:8]}"
        for key in every
    }
