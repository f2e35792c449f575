"""The base class of floors that list the items whose titles are most like those of the history."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
from scipy import sparse

from baselines._floor import Floor, top_of_table
from bench.cell import Run
from bench.types import (
    BoolArray,
    Catalogue,
    Exam,
    FloatArray,
    IntArray,
    Queries,
    Ragged,
    Ranking,
    Windows,
)

CHUNK = 256  # queries scored at a time, against the whole catalogue
Among = Literal["all", "never_trained", "ids_above_last"]


class NearestTitles(Floor):
    """Items by a weighted sum of title similarities, the history itself left out.

    With the r-th last history item h_{-r}, its weight w_r and one vector a title for each side::

        score(j; h) = sum_r w_r asked(h_{-r}) . offered(j)

    Attributes:
        among: the items that may be listed: all, those that occur nowhere in the training rows, or those
            with a larger id than the last history item.
    """

    tags = frozenset({"text"})
    among: ClassVar[Among] = "all"

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Note which items were trained on; everything else is in the titles."""
        self.state = {"never_trained": np.append(False, ~train.seen[1:])}

    @abstractmethod
    def vectors(self, catalogue: Catalogue) -> tuple[Any, Any]:
        """By item id, the vectors of titles as asked and as offered, both sparse or both dense."""

    def weight(self, step_P: IntArray) -> FloatArray:
        """Weight of a history item by its distance from the end, 1 for the last one."""
        return (step_P == 1).astype(np.float32)

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """At most ``k`` items with the most similar titles."""
        asked, offered = self.vectors(queries.catalogue)
        history = self._weighted(queries.history, queries.catalogue.n_items + 1)
        item_QK = np.zeros((len(queries), k), np.int32)
        score_QK = np.zeros((len(queries), k), np.float32)
        for start in range(0, len(queries), CHUNK):
            part = slice(start, start + CHUNK)
            score_QN = _similar(history[part] @ asked, offered)
            listed_QN = self._candidates(queries.take(np.arange(len(queries))[part]))
            score_QN[~listed_QN] = -np.inf
            item_QK[part], score_QK[part] = top_of_table(score_QN, k)
        return Ranking(item_QK, score_QK)

    def _weighted(self, history: Ragged, width: int) -> sparse.csr_matrix:
        """Weight of each item in each history, float32 [Q, width]; repeats of an item add up."""
        row = np.repeat(np.arange(len(history)), history.lengths)
        step_P = history.offsets[1:][row] - np.arange(len(row))
        entries = (self.weight(step_P), (row, history.values))
        found = sparse.csr_matrix(entries, (len(history), width), dtype=np.float32)
        found.eliminate_zeros()
        return found

    def _candidates(self, queries: Queries) -> BoolArray:
        """Which items may be listed, bool [Q, N + 1]."""
        n_items = queries.catalogue.n_items
        listed_QN = np.ones((len(queries), n_items + 1), bool)
        if self.among == "never_trained":
            listed_QN &= self.state["never_trained"]
        elif self.among == "ids_above_last":
            listed_QN &= np.arange(n_items + 1) > queries.last_Q[:, None]
        row = np.repeat(np.arange(len(queries)), queries.history.lengths)
        listed_QN[row, queries.history.values] = False
        listed_QN[:, 0] = False
        return listed_QN


def _similar(asked: Any, offered: Any) -> FloatArray:
    """Similarity of each query and each title, [Q, N + 1]; minus infinity where no words are shared."""
    if sparse.issparse(offered):
        score_QN = np.asarray((asked @ offered.T).todense())
        return np.where(score_QN > 0, score_QN, -np.inf)
    # the last digits of a dense product depend on what else is multiplied with it
    return np.round(np.asarray(asked) @ offered.T, 5)
