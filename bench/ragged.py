"""Rows of different lengths: histories, token paths, the items behind a title."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]


def within(lengths: IntArray) -> IntArray:
    """Index of each value within its row, of rows laid end to end: 0, 1, .., n - 1 for each length n.

    Args:
        lengths: of the rows.
    """
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths in two flat arrays.

    Attributes:
        values: all rows end to end, int32 [total].
        offsets: row i is ``values[offsets[i]:offsets[i + 1]]``, int64 [rows + 1].
    """

    values: IntArray
    offsets: IntArray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Pack a sequence of integer sequences."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        flat = (value for row in rows for value in row)
        return cls(np.fromiter(flat, np.int32, int(offsets[-1])), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> IntArray:
        row = range(len(self))[row]
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[IntArray]:
        return (self[row] for row in range(len(self)))

    @cached_property
    def lengths(self) -> IntArray:
        """Length of each row, int64 [rows]."""
        return np.diff(self.offsets)

    @cached_property
    def last(self) -> IntArray:
        """Last value of each row, 0 for an empty one, int32 [rows]."""
        filled = np.append(self.values, 0)  # so that an empty tail row has something to index
        return np.where(self.lengths > 0, filled[self.offsets[1:] - 1], 0).astype(np.int32)

    def take(self, rows: IntArray) -> Ragged:
        """The given rows, in the given order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(self.values[np.repeat(self.offsets[:-1][rows], lengths) + within], offsets)

    def append(self, column: IntArray) -> Ragged:
        """Each row with one more value at its end."""
        offsets = self.offsets + np.arange(len(self.offsets))
        values = np.empty(len(self.values) + len(self), np.int32)
        ends = offsets[1:] - 1
        values[ends] = column
        inside = np.ones(len(values), bool)
        inside[ends] = False
        values[inside] = self.values
        return Ragged(values, offsets)

    def padded(self, width: int, *, align: Literal["left", "right"]) -> IntArray:
        """The last ``width`` values of each row as a matrix padded with 0, int32 [rows, width].

        ``align="left"`` puts the values first and the padding behind (RecBole's layout);
        ``align="right"`` puts the most recent value in the last column.

        Args:
            width: columns.
            align: ``left`` puts the values first and the padding behind (RecBole's layout), ``right``
                puts the latest value in the last column.
        """
        kept = np.minimum(self.lengths, width)
        matrix = np.zeros((len(self), width), np.int32)
        row = np.repeat(np.arange(len(self)), kept)
        place = within(kept)
        shift = 0 if align == "left" else width - kept[row]
        matrix[row, place + shift] = self.values[(self.offsets[1:] - kept)[row] + place]
        return matrix
