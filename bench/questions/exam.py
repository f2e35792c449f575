"""The test rows of a cell with its lists, in the names that the data came with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import Cell, K
from bench.data.load import load_dataset
from bench.errors import ArtefactError, DataError
from bench.evaluation.positions import MISSING
from bench.questions.find import Found
from bench.results.packed import Packed
from bench.results.store import Store
from bench.types import Catalogue, Dataset, Exam, FloatArray, IntArray

Entries = list[dict[str, Any]]  # of a list: rank, item, title and perhaps score


@dataclass(frozen=True, eq=False)
class Answered:
    """A cell's test exam, its lists and where they have the targets.

    Attributes:
        dataset: the data.
        exam: the test rows that the cell was examined on.
        packed: positions of the targets.
        item_QK: the lists, best first, 0 where one has ended, int [Q, K].
        score_QK: their scores; None where the method gives none or they were not kept.
        by_title: whether an entry stands for all items of its title, as in the packed lists.
    """

    dataset: Dataset
    exam: Exam
    packed: Packed
    item_QK: IntArray
    score_QK: FloatArray | None
    by_title: bool

    def __len__(self) -> int:
        return len(self.exam)

    @property
    def catalogue(self) -> Catalogue:
        """The items."""
        return self.dataset.catalogue

    def rank(self, row: int) -> int | None:
        """Rank of the target's title from 1; None where it is not among the first K."""
        position = int(self.packed.title.position_Q[row])
        return None if position == MISSING else position + 1

    def record(self, row: int, k: int = K) -> dict[str, Any]:
        """One test row with its list, ready for JSON.

        Args:
            row: its place in the exam, from 0.
            k: entries of the list.
        """
        queries = self.exam.queries
        return {
            "row": row,
            "user": self.dataset.user_name(int(queries.user_Q[row])),
            "history": [described(self.catalogue, item) for item in queries.history[row].tolist()],
            "target": described(self.catalogue, int(self.exam.target_Q[row])),
            "target_rank": self.rank(row),
            "list": self.list(row, k),
        }

    def list(self, row: int, k: int = K) -> Entries:
        """The list of one test row, ready for JSON.

        Args:
            row: its place in the exam, from 0.
            k: entries of the list.
        """
        scores = None if self.score_QK is None else self.score_QK[row]
        return listed(self.catalogue, self.item_QK[row, :k], scores)


def described(catalogue: Catalogue, item: int) -> dict[str, str]:
    """An item's own id and title."""
    return {"item": catalogue.item_name(item), "title": catalogue.titles[item]}


def listed(catalogue: Catalogue, item_K: IntArray, score_K: FloatArray | None) -> Entries:
    """The entries of one list: rank from 1, item, title and, where there are scores, the score.

    Args:
        catalogue: the items.
        item_K: the list, 0 where it has ended.
        score_K: their scores, as many or more; None for none.
    """
    return [
        {
            "rank": place + 1,
            **described(catalogue, item),
            **({} if score_K is None else {"score": float(score_K[place])}),
        }
        for place, item in enumerate(item_K.tolist())
        if item
    ]


def data_of(cell: Cell, data_root: Path | None) -> Dataset:
    """The data of a cell.

    Args:
        cell: whose.
        data_root: folder of the datasets; None for the usual one.

    Raises:
        DataError: the data here are others than the cell saw.
    """
    dataset = load_dataset(cell.dataset, data_root, uncut=cell.uncut)
    if dataset.version != cell.data_version:
        raise DataError(
            f"{cell.name} saw version {cell.data_version} of {cell.dataset}, here is {dataset.version}; give "
            "the folder of that version with --data-root"
        )
    return dataset


def answered(found: Found, store: Store, data_root: Path | None) -> Answered:
    """The test rows of a finished cell with its lists.

    Lists come from the run store with items and scores, or else from the row's packed file, which holds the
    first ten titles.

    Args:
        found: a row.
        store: where its lists may be.
        data_root: folder of the datasets; None for the usual one.

    Raises:
        ArtefactError: the cell has no result, or its lists were not kept.
        DataError: the data here are others than the cell saw.
    """
    cell = found.cell
    if found.row.status != "done":
        raise ArtefactError(
            f"{cell.name} is {found.row.status}: {found.row.reason}; `bench why` says more"
        )
    dataset = data_of(cell, data_root)
    exam = dataset.split.test.sample(cell.test_rows)
    packed = Packed.load(found.path.with_suffix(".npz"))
    if not packed.asks(exam.queries.user_Q):
        raise DataError(
            f"{found.path} was examined on other test rows than {cell.dataset} has here"
        )
    kept = store.read_lists(cell.key)
    if kept is not None and np.array_equal(kept.get("target_Q", ()), exam.target_Q):
        return Answered(
            dataset, exam, packed, kept["item_QK"], kept.get("score_QK"), by_title=False
        )
    if packed.lists is None:
        raise ArtefactError(
            f"{cell.name} was kept without its lists; run it again here with --reuse never"
        )
    return Answered(dataset, exam, packed, packed.lists.title_QK, None, by_title=True)


def chosen(found: Answered, users: Sequence[str] = (), limit: int | None = None) -> Iterator[int]:
    """The test rows of some users, or all, at most ``limit``.

    Args:
        found: the exam.
        users: by the names the data came with; empty for all.
        limit: how many rows; None for all.

    Raises:
        DataError: a user has no test row.
    """
    names = [found.dataset.user_name(int(user)) for user in found.exam.queries.user_Q]
    if gone := [user for user in users if user not in set(names)]:
        raise DataError(
            f"user {gone[0]!r} has no test row; the first that have: {', '.join(names[:5])}"
        )
    rows = [row for row, name in enumerate(names) if not users or name in users]
    yield from rows[:limit]
