"""The same list for everybody: what was bought most."""

from __future__ import annotations

import numpy as np

from baselines._floor import Floor
from bench.cell import Run
from bench.registry import methods
from bench.types import Exam, IntArray, Queries, Ranking, Windows


def by_count(count_N: IntArray, first_N: IntArray) -> IntArray:
    """Item ids by falling count, ties by first occurrence then id; items never counted are left out.

    Args:
        count_N: how often, int [N + 1].
        first_N: position of the first occurrence, int [N + 1].
    """
    order = np.lexsort((first_N, -count_N))
    return order[count_N[order] > 0].astype(np.int32)


def first_occurrence(value_P: IntArray, n_items: int) -> IntArray:
    """Position of the first occurrence of each item, ``len(value_P)`` where there is none, [N + 1].

    Args:
        value_P: items in file order.
        n_items: N.
    """
    first_N = np.full(n_items + 1, len(value_P))
    value_U, first_U = np.unique(value_P, return_index=True)
    first_N[value_U] = first_U
    return first_N


class _SameForAll(Floor):
    """Recommends one fixed list, at most as long as there are counted items."""

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """The first ``k`` of the list, for every query."""
        best = self.state["order"][:k]
        best_K = np.pad(best, (0, k - len(best)))
        return Ranking(np.tile(best_K, (len(queries), 1)))


@methods.register("popularity")
class Popularity(_SameForAll):
    """Items by how often they are the target of a training row."""

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Count targets."""
        first_N = first_occurrence(train.target_W, train.n_items)
        self.state = {"order": by_count(train.target_count, first_N)}


@methods.register("popularity_occurrences")
class PopularityOccurrences(_SameForAll):
    """Items by all their occurrences in training windows, histories included.

    Windows overlap, so the early purchases of active users weigh more than under ``popularity``.
    """

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Count history items and targets."""
        values = train.sequences.values
        count_N = np.bincount(values, minlength=train.n_items + 1)
        self.state = {"order": by_count(count_N, first_occurrence(values, train.n_items))}
