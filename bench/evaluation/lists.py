"""The first K titles of every list, with the counts that metrics of lists need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bench.cell import K
from bench.evaluation.positions import repeats
from bench.types import BoolArray, Catalogue, IntArray, Ranking, Windows


@dataclass(frozen=True, eq=False)
class Lists:
    """Recommended titles. A title is named by its class, the smallest item id that has it.

    Attributes:
        title_QK: the titles of each list, best first, 0 where a list has ended, int [Q, K].
        title_D: the distinct titles in all lists, ascending, int [D].
        count_D: how often each is a training target, int32 [D].
        seen_D: whether it occurs anywhere in the training windows, bool [D].
        n_titles: titles in the catalogue.
        n_train: training targets.
        by_chance: whether any list goes on by chance after its last entry.
    """

    title_QK: IntArray
    title_D: IntArray
    count_D: IntArray
    seen_D: BoolArray
    n_titles: int
    n_train: int
    by_chance: bool = False

    def __len__(self) -> int:
        return len(self.title_QK)

    @cached_property
    def frequency_D(self) -> IntArray:
        """How many lists hold each title, int64 [D]."""
        last = int(self.title_D[-1]) if len(self.title_D) else 0
        return np.bincount(self.title_QK.ravel(), minlength=last + 1)[self.title_D]

    def cut(self, k: int) -> Lists:
        """The first ``k`` entries of each list."""
        return replace(self, title_QK=self.title_QK[:, :k])


def distinct(title_QK: IntArray) -> IntArray:
    """The titles that occur in lists, ascending."""
    frequency = np.bincount(title_QK.ravel(), minlength=1)
    frequency[0] = 0
    return np.flatnonzero(frequency)


def top_lists(ranking: Ranking, catalogue: Catalogue, train: Windows) -> Lists:
    """The first K distinct titles of every list.

    Fixed parts only: what a list draws by chance is no entry, nor is anything of a query that failed.

    Args:
        ranking: lists of items.
        catalogue: the items with their titles.
        train: the training windows of the dataset.
    """
    item_QK = np.asarray(ranking.item_QK)
    kept_QK = item_QK > 0
    if ranking.tail is not None:
        kept_QK &= np.arange(item_QK.shape[1]) < np.asarray(ranking.tail.start_Q)[:, None]
    if ranking.failed_Q is not None:
        kept_QK &= ~np.asarray(ranking.failed_Q, bool)[:, None]
    class_N = catalogue.title_class
    title_QK = np.where(kept_QK, class_N[item_QK], 0)
    title_QK = np.where(repeats(title_QK), 0, title_QK)
    order_QK = np.argsort(title_QK == 0, axis=1, kind="stable")[:, :K]
    title_QK = np.take_along_axis(title_QK, order_QK, 1)
    title_QK = np.pad(title_QK, ((0, 0), (0, K - title_QK.shape[1])))
    title_D = distinct(title_QK)
    count_N = np.bincount(class_N, train.target_count, len(class_N))
    seen_N = np.bincount(class_N, train.seen, len(class_N))
    return Lists(
        title_QK,
        title_D,
        count_N[title_D].astype(np.int32),
        seen_N[title_D] > 0,
        n_titles=len(np.unique(class_N[1:])),
        n_train=len(train),
        by_chance=ranking.tail is not None and bool((np.asarray(ranking.tail.start_Q) < K).any()),
    )
