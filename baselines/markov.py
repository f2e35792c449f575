"""First-order Markov chain: what followed the last item most often."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import NonNegativeInt

from baselines._floor import Floor, adjacent_pairs, head, most_frequent_first
from bench.cell import Run
from bench.config import Config
from bench.registry import methods
from bench.types import Exam, IntArray, Queries, Ragged, RandomTail, Ranking, Windows


class _Followers(Floor):
    """Keeps, for each item, what followed it directly."""

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Count adjacent pairs inside the training windows, overlapping windows as they are."""
        before_P, after_P = adjacent_pairs(train)
        followers = most_frequent_first(before_P, after_P, train.n_items + 1)
        self.state = {
            "followers": followers.values,
            "offsets": followers.offsets,
            "never_trained": np.append(False, ~train.seen[1:]),
        }

    def followers(self, last_Q: IntArray, width: int) -> IntArray:
        """The ``width`` most frequent followers of each item, 0 at the end of shorter lists."""
        rows = Ragged(self.state["followers"], self.state["offsets"])
        return head(rows.take(last_Q), width)


@methods.register("markov")
class Markov(_Followers):
    """For the last history item, items by how often they follow it directly; the list is not filled up.

    All adjacent pairs inside training windows count, ties go by first occurrence. A query whose last item
    never had a follower gets an empty list.
    """

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """At most ``k`` followers of the last item."""
        return Ranking(self.followers(queries.last_Q, k))


class MarkovThenNewConfig(Config):
    """How many followers are listed before the new items."""

    m: NonNegativeInt = 5
    """Followers kept before the random part begins; the rest of the list are items never trained on."""


@methods.register("markov_then_new")
class MarkovThenNew(_Followers):
    """The first ``m`` followers, then items that occur nowhere in training, drawn uniformly.

    Scored by its expectation. In a chronological split the new items carry many of the test targets, which
    is why a list without any knowledge of them can beat a trained model.
    """

    Config = MarkovThenNewConfig
    search: ClassVar = {"m": (3, 5, 10)}

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """Followers first, then a random tail."""
        item_QK = self.followers(queries.last_Q, k)
        item_QK[:, self.config.m :] = 0
        return Ranking(item_QK, tail=RandomTail((item_QK > 0).sum(1), self.state["never_trained"]))
