"""The base class of methods that only count (floors): their state is a few arrays; torch is not loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from scipy import sparse

from bench.method import Method
from bench.types import FloatArray, IntArray, Ragged, Windows

STATE = "state.safetensors"


class Floor(Method):
    """A method that counts instead of learning.

    Attributes:
        state: everything ``recommend`` needs, by name; set by ``fit``.
    """

    family = "floor"

    def __init__(self, config: Any = None, **axes: str | None) -> None:
        super().__init__(config, **axes)
        self.state: dict[str, npt.NDArray[Any]] = {}

    def save(self, folder: Path) -> None:
        """Write the arrays as one safetensors file."""
        save_file({k: np.ascontiguousarray(v) for k, v in self.state.items()}, folder / STATE)

    def load(self, folder: Path, *, device: str) -> None:
        """Read the arrays back; the device does not matter."""
        self.state = load_file(folder / STATE)


def adjacent_pairs(train: Windows) -> tuple[IntArray, IntArray]:
    """Every item and the one right after it, over all windows in file order.

    Overlapping windows are counted as they are, so an early pair of an active user counts often.

    Returns:
        (before_P, after_P), int32.
    """
    values, offsets = train.sequences.values, train.sequences.offsets
    inside = np.ones(len(values), bool)
    inside[offsets[1:] - 1] = False  # the last item of a window has no successor
    before = np.flatnonzero(inside)
    return values[before], values[before + 1]


def most_frequent_first(key_P: IntArray, value_P: IntArray, n_keys: int) -> Ragged:
    """For each key its values, most frequent first, ties by first occurrence.

    Args:
        key_P: key of each pair, 0..n_keys - 1.
        value_P: value of each pair.
        n_keys: number of keys.

    Returns:
        One row for each key 0..n_keys - 1, without repeats.
    """
    # one integer for each pair, so that one sort counts all of them
    pair_P = key_P.astype(np.int64) * (int(value_P.max(initial=0)) + 1) + value_P
    _, first_U, count_U = np.unique(pair_P, return_index=True, return_counts=True)
    order = np.lexsort((first_U, -count_U, key_P[first_U]))
    lengths = np.bincount(key_P[first_U], minlength=n_keys)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(value_P[first_U[order]].astype(np.int32), offsets)


def head(rows: Ragged, width: int) -> IntArray:
    """The first ``width`` values of each row, 0 where a row is shorter, int32 [rows, width].

    Args:
        rows: lists of items.
        width: columns.
    """
    table = np.zeros((len(rows), width), np.int32)
    row = np.repeat(np.arange(len(rows)), rows.lengths)
    within = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], rows.lengths)
    kept = within < width
    table[row[kept], within[kept]] = rows.values[kept]
    return table


def top_of_rows(score: sparse.csr_matrix, k: int) -> tuple[IntArray, FloatArray]:
    """The ``k`` columns with the largest positive score of each row; ties go to the smaller column.

    Args:
        score: sparse [Q, N + 1]; what is not stored is not recommended, so lists can be short.
        k: length of the lists.

    Returns:
        Columns int32 [Q, k], 0 where a row has fewer, and their scores float32 [Q, k].
    """
    score = score.tocsr()
    row = np.repeat(np.arange(score.shape[0]), np.diff(score.indptr))
    good = (score.data > 0) & (score.indices > 0)
    return _top(row[good], score.indices[good], score.data[good], (score.shape[0], k))


def top_of_table(score_QN: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """The ``k`` items with the largest score of each row; ties go to the smaller item.

    Args:
        score_QN: dense [Q, N + 1], minus infinity at what is not to be listed, item 0 included.
        k: length of the lists, at most N.

    Returns:
        Items int32 [Q, k], 0 where a row has fewer, and their scores float32 [Q, k].
    """
    least_Q = np.partition(score_QN, -k, axis=1)[:, -k]
    row, item = np.nonzero((score_QN >= least_Q[:, None]) & (score_QN > -np.inf))
    return _top(row, item, score_QN[row, item], (len(score_QN), k))


def _top(
    row: IntArray, column: IntArray, value: FloatArray, shape: tuple[int, int]
) -> tuple[IntArray, FloatArray]:
    """The entries with the largest values of each row as a table, see ``top_of_rows``."""
    order = np.lexsort((column, -value, row))
    start_Q = np.searchsorted(row[order], np.arange(shape[0]))
    rank = np.arange(len(order)) - start_Q[row[order]]
    kept = rank < shape[1]
    item_QK = np.zeros(shape, np.int32)
    score_QK = np.zeros(shape, np.float32)
    item_QK[row[order][kept], rank[kept]] = column[order][kept]
    score_QK[row[order][kept], rank[kept]] = value[order][kept]
    return item_QK, score_QK
