"""Item neighbours from windows, read with the order of events: no parameters are learned."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt
from scipy import sparse

from baselines._floor import Floor, top_of_rows
from bench.cell import Run
from bench.config import Config
from bench.registry import methods
from bench.types import Exam, FloatArray, Queries, Ragged, Ranking, Windows

CHUNK = 1024  # queries scored at a time, so that a large test set needs no more memory


class ItemKNNConfig(Config):
    """Shape of the neighbourhood."""

    neighbours: PositiveInt = 200
    """Followers kept per item, the most similar ones."""
    decay: NonNegativeFloat = 1.0
    """A pair d steps apart counts d^-decay; 0 makes all pairs of a window equal."""
    recency: NonNegativeFloat = 2.0
    """The r-th last history item counts r^-recency; large values leave only the last item."""
    normalise: NonNegativeFloat = 0.5
    """Exponent of the item counts in the denominator: 0 raw co-occurrence, 0.5 cosine."""


@methods.register("item_knn")
class ItemKNN(Floor):
    """Sequential item-kNN.

    With windows w, positions x < y inside them and c(i) the number of windows in which i stands::

        sim(i, j)   = sum_w sum_{x<y, w_x=i, w_y=j} (y - x)^-decay / (c(i) c(j))^normalise
        score(j; h) = sum_r r^-recency sim(h_{-r}, j)

    The directed, distance-weighted counts are the sequential rules of Ludewig and Jannach (Evaluation of
    session-based recommendation algorithms, 2018, section 3); the cosine-like denominator is the item-kNN
    baseline of Hidasi et al. (2016). Nothing is excluded from a list, the history neither. Overlapping
    windows are counted as they are. Items without a common window with the history are not listed, so
    lists can be shorter than k.
    """

    Config = ItemKNNConfig
    search: ClassVar = {
        "decay": (0.5, 1.0, 2.0),
        "recency": (0.5, 1.0, 2.0),
        "normalise": (0.0, 0.25, 0.5),
    }

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Count the pairs of every window and keep the best neighbours of each item."""
        counts = _pair_counts(train.sequences, train.n_items, self.config.decay)
        scale = sparse.diags(
            _window_count(train.sequences, train.n_items) ** -self.config.normalise
        )
        self._keep((scale @ counts @ scale).tocsr())

    def _keep(self, similar: sparse.csr_matrix) -> None:
        item_NK, score_NK = top_of_rows(similar, min(self.config.neighbours, similar.shape[1]))
        row, column = np.nonzero(item_NK)
        self.state = {
            "item": item_NK[row, column],
            "similarity": score_NK[row, column].astype(np.float32),
            "indptr": np.concatenate([[0], np.cumsum((item_NK > 0).sum(1))]),
        }

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """Sum the neighbours of the history, recent items first."""
        n = len(self.state["indptr"]) - 1
        parts = (self.state["similarity"], self.state["item"], self.state["indptr"])
        similar = sparse.csr_matrix(parts, (n, n))
        weight = _recency(queries.history, n, self.config.recency)
        parts_QK = [
            top_of_rows(weight[i : i + CHUNK] @ similar, k) for i in range(0, len(queries), CHUNK)
        ]
        return Ranking(
            np.concatenate([np.zeros((0, k), np.int32), *(item_QK for item_QK, _ in parts_QK)]),
            np.concatenate([np.zeros((0, k), np.float32), *(score_QK for _, score_QK in parts_QK)]),
        )


def _pair_counts(sequences: Ragged, n_items: int, decay: float) -> sparse.csr_matrix:
    """Distance-weighted counts of ordered pairs, float64 [N + 1, N + 1]."""
    shape = (n_items + 1, n_items + 1)
    counts = sparse.csr_matrix(shape)
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)
    for step in range(1, int(sequences.lengths.max(initial=1))):
        # sequences are stored end to end, so a pair must not reach into the next one
        together = row[:-step] == row[step:]
        before, after = sequences.values[:-step][together], sequences.values[step:][together]
        apart = before != after
        ones = np.full(int(apart.sum()), float(step) ** -decay)
        counts = counts + sparse.csr_matrix((ones, (before[apart], after[apart])), shape)
    return counts


def _window_count(sequences: Ragged, n_items: int) -> FloatArray:
    """In how many windows each item stands, at least 1, float64 [N + 1]."""
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)
    seen = np.unique(row * (n_items + 1) + sequences.values) % (n_items + 1)
    return np.maximum(np.bincount(seen, minlength=n_items + 1), 1).astype(float)


def _recency(history: Ragged, width: int, recency: float) -> sparse.csr_matrix:
    """Weight of each history item, float64 [Q, width]; repeats of an item add up."""
    row = np.repeat(np.arange(len(history)), history.lengths)
    from_end = history.offsets[1:][row] - np.arange(len(row))
    return sparse.csr_matrix(
        (from_end.astype(float) ** -recency, (row, history.values)), (len(history), width)
    )
