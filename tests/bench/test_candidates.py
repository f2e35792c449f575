"""Catalogue-at-time-t: what had not occurred by a query's time is no candidate."""

import numpy as np
import pytest

from bench.errors import Unavailable
from bench.evaluation.candidates import KNOWN, recommend_known
from bench.experiment.choice import Choice
from bench.experiment.grid import expand
from bench.experiment.suite import read
from bench.method import Method
from bench.types import Catalogue, Queries, Ragged, RandomTail, Ranking


class _Countdown(Method):
    """Ranks item N first, item 1 last."""

    family = "floor"
    tail = None

    def fit(self, train, valid, run):
        raise AssertionError("not needed here")

    def recommend(self, queries, k):
        n = queries.catalogue.n_items
        return Ranking(np.tile(np.arange(n, n - k, -1), (len(queries), 1)), tail=self.tail)


def _queries():
    return Queries(
        Catalogue(("", *"abcd")), np.arange(3), Ragged.of([[1]] * 3), np.array([10, 20, 30])
    )


FIRST_SEEN = np.array([99, 5, 30, 15, 40])  # items 1..4


def test_only_items_known_by_then_stay_in_order():
    lists = recommend_known(_Countdown(), _queries(), 3, FIRST_SEEN).item_QK
    assert lists.tolist() == [[1, 0, 0], [3, 1, 0], [3, 2, 1]]


def test_what_cannot_rank_everything_is_left_out():
    method = _Countdown()
    method.tail = RandomTail(np.zeros(3, int), np.ones(5, bool))
    with pytest.raises(Unavailable, match="ends in chance"):
        recommend_known(method, _queries(), 3, FIRST_SEEN)


def test_it_is_a_protocol_of_its_own():
    (cell,) = expand(read("smoke"), Choice(methods=["markov"], candidates="known")).cells
    assert cell.protocol == KNOWN
