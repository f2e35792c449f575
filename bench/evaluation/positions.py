"""The rank of each target in its list, from which all accuracy metrics are computed; numpy only.

Ranks are small enough to be kept beside every row, so a later metric needs no new run. Axes:
Q queries, K list, N items. Source of the rules of identity: the suite's specification, section 0.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.cell import K
from bench.types import (
    BoolArray,
    Catalogue,
    Exam,
    FloatArray,
    Identity,
    IntArray,
    RandomTail,
    Ranking,
)

MISSING = 255  # position of a target that is not among the first K


@dataclass(frozen=True, eq=False)
class Positions:
    """Ranks of the targets in their lists.

    Attributes:
        position_Q: rank of the target from 0, uint8; 255 where it is not among the first K.
        chance_Q: probability that any one position of the random tail holds the target, float32 [Q];
            None for a list without a random tail. The tail ends once its pool is used up, that is
            after ``1 / chance`` positions.
        start_Q: first position filled by chance, uint8 [Q]; None without a tail.
    """

    position_Q: npt.NDArray[np.uint8]
    chance_Q: npt.NDArray[np.float32] | None = None
    start_Q: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.position_Q)

    @property
    def random_ranks(self) -> tuple[IntArray, IntArray, FloatArray]:
        """The ranks from 0 that chance fills, by query: the first, the one after the last, and the
        probability that any one of them holds the target; int64 [Q], int64 [Q], float64 [Q].
        """
        assert self.chance_Q is not None and self.start_Q is not None, "lists without a random tail"
        drawn_Q = self.chance_Q > 0
        # the chance is kept in single precision; the size of the pool that it came from is whole
        left_Q = np.rint(1.0 / np.where(drawn_Q, self.chance_Q.astype(np.float64), 1.0))
        start_Q = self.start_Q.astype(np.int64)
        return start_Q, start_Q + left_Q.astype(np.int64), np.where(drawn_Q, 1.0 / left_Q, 0.0)

    def take(self, rows: Any) -> Positions:
        """These queries only; indices or a mask."""
        chance_Q, start_Q = self.chance_Q, self.start_Q
        return Positions(
            self.position_Q[rows],
            None if chance_Q is None else chance_Q[rows],
            None if start_Q is None else start_Q[rows],
        )


def positions(
    ranking: Ranking,
    exam: Exam,
    *,
    identity: Identity,
    train_count: IntArray,
    names: Identity = "item",
) -> Positions:
    """Position of each target in its list, under one of the two rules of identity.

    ``title``: predictions and target become title classes, later repeats of a class are dropped, then the
    list is cut at K. ``item``: ids are compared; a list that names title classes is first spelt out, each
    class as its items by training popularity (ties by id), then cut at K.

    Args:
        ranking: the lists; queries in the order of the exam.
        exam: queries and targets.
        identity: the rule.
        train_count: occurrences in training by item id, int [N + 1]; orders items of one title.
        names: what the lists name, ``Method.identity``.
    """
    assert len(ranking) == len(exam), "one list a query"
    catalogue = exam.queries.catalogue
    item_QK, target_Q = np.asarray(ranking.item_QK), np.asarray(exam.target_Q)
    tail = ranking.tail
    if tail is not None:
        item_QK = np.where(np.arange(item_QK.shape[1]) < tail.start_Q[:, None], item_QK, 0)
    spelt_out = identity == "item" and names == "title"
    key: IntArray = np.arange(catalogue.n_items + 1)
    if identity == "title" or spelt_out:
        key = catalogue.title_class
    key_QK, key_Q = key[item_QK], key[target_Q]
    key_QK = np.where(repeats(key_QK), 0, key_QK)
    width, extra = (
        _spelling(catalogue, train_count) if spelt_out else (np.ones_like(key), np.zeros_like(key))
    )
    width_QK = np.where(key_QK > 0, width[key_QK], 0)
    found_QK = (key_QK == key_Q[:, None]) & (key_QK > 0)
    column_Q = found_QK.argmax(1)[:, None]
    before_QK = np.cumsum(width_QK, axis=1) - width_QK
    rank_Q = np.take_along_axis(before_QK, column_Q, 1)[:, 0] + extra[target_Q]
    listed_Q = found_QK.any(1) & _generated(ranking)
    position_Q = np.where(listed_Q & (rank_Q < K), rank_Q, MISSING).astype(np.uint8)
    if tail is None:
        return Positions(position_Q)
    target_key_Q = target_Q if spelt_out else key_Q
    pool_size, in_pool_Q = _pool(tail, key, target_key_Q, spelt_out=spelt_out)
    left_Q = pool_size.sum() - pool_size[key_QK].sum(1, where=key_QK > 0)
    drawn_Q = in_pool_Q & ~found_QK.any(1) & _generated(ranking)
    chance_Q = np.where(drawn_Q, 1.0 / np.maximum(left_Q, 1), 0.0).astype(np.float32)
    start_Q = np.minimum(width_QK.sum(1), K).astype(np.uint8)
    return Positions(position_Q, chance_Q, start_Q)


def _generated(ranking: Ranking) -> BoolArray:
    if ranking.failed_Q is None:
        return np.ones(len(ranking), bool)
    return ~np.asarray(ranking.failed_Q, bool)


def repeats(key_QK: IntArray) -> BoolArray:
    """Entries that name something named earlier in the same row."""
    order_QK = np.argsort(key_QK, axis=1, kind="stable")
    sorted_QK = np.take_along_axis(key_QK, order_QK, 1)
    repeat_QK = np.zeros(key_QK.shape, bool)
    repeat_QK[:, 1:] = sorted_QK[:, 1:] == sorted_QK[:, :-1]
    back_QK = np.empty_like(repeat_QK)
    np.put_along_axis(back_QK, order_QK, repeat_QK, 1)
    return back_QK


def _spelling(catalogue: Catalogue, train_count: IntArray) -> tuple[IntArray, IntArray]:
    """Items in each title class, by class, and each item's rank among them, both int [N + 1]."""
    title_class = catalogue.title_class
    ids = np.arange(len(title_class))
    order = np.lexsort((ids, -np.asarray(train_count), title_class))
    width = np.bincount(title_class, minlength=len(ids))
    first = np.cumsum(width) - width
    rank = np.empty_like(ids)
    rank[order] = ids - first[title_class[order]]
    return width, rank


def _pool(
    tail: RandomTail, key: IntArray, target_key_Q: IntArray, *, spelt_out: bool
) -> tuple[IntArray, BoolArray]:
    """How many draws each key stands for in the pool, by key, and whether the target is in the pool.

    Titles are drawn where titles are compared, so a class counts once however many items it has.
    """
    drawable = np.asarray(tail.pool, bool).copy()
    drawable[0] = False
    count = np.bincount(key[drawable], minlength=len(key))
    if spelt_out:
        return count, drawable[target_key_Q]
    return np.minimum(count, 1), count[target_key_Q] > 0
