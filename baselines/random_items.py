"""Chance, scored by its expectation instead of by one draw."""

from __future__ import annotations

import numpy as np

from baselines._floor import Floor
from bench.cell import Run
from bench.registry import methods
from bench.types import Exam, Queries, RandomTail, Ranking, Windows


class _Draw(Floor):
    """A list drawn uniformly without replacement from a pool of items."""

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """An empty list whose tail begins at once."""
        start_Q = np.zeros(len(queries), np.int64)
        nothing_QK = np.zeros((len(queries), k), np.int32)
        return Ranking(nothing_QK, tail=RandomTail(start_Q, self.state["pool"]))


@methods.register("random")
class RandomItems(_Draw):
    """Any item of the catalogue."""

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Everything but padding."""
        self.state = {"pool": np.arange(train.n_items + 1) > 0}


@methods.register("random_new")
class RandomNew(_Draw):
    """Any item that occurs nowhere in the training rows, neither as target nor in a history."""

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """The complement of what was seen."""
        self.state = {"pool": np.append(False, ~train.seen[1:])}
