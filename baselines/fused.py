"""Two floors in one list, by the ranks of their own lists: what their knowledge is worth together."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt
from scipy import sparse

from baselines._floor import Floor, top_of_rows
from baselines.item_knn import ItemKNN
from baselines.nearest_titles import LastItemTextMasked
from baselines.next_id import NextId
from bench.cell import Run
from bench.config import Config
from bench.registry import methods
from bench.types import Exam, FloatArray, IntArray, Queries, Ranking, Windows


class FusedConfig(Config):
    """How much the first ranks are worth."""

    constant: NonNegativeFloat = 10.0
    """Added to every rank: large values let items win that stand in both lists (the paper takes 60; of 0, 10
    and 60 this one is best on the validation rows of Office and Book, for both pairs)."""
    depth: PositiveInt = 100
    """Items read of each list, unless more are asked for."""


class _Fused(Floor):
    """Reciprocal rank fusion of two floors under their defaults; the history is left out.

    With rank_1(j) from 1 in the first list and rank_2(j) in the second::

        score(j) = 1 / (constant + rank_1(j)) + 1 / (constant + rank_2(j) + 1/2)

    where an item that a list does not hold adds nothing. Cormack, Clarke and Büttcher (SIGIR 2009); the
    half rank lets the first list win ties.

    Attributes:
        parts: the two floors.
    """

    Config = FusedConfig
    search: ClassVar = {"constant": (0.0, 10.0, 60.0)}
    tags = frozenset({"text"})
    parts: ClassVar[tuple[type[Floor], type[Floor]]]

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Fit both."""
        self._fitted = [part() for part in self.parts]
        for part in self._fitted:
            part.fit(train, valid, run)

    def save(self, folder: Path) -> None:
        """Write the arrays of both, one file each."""
        for number, part in enumerate(self._fitted):
            (folder / str(number)).mkdir()
            part.save(folder / str(number))

    def load(self, folder: Path, *, device: str) -> None:
        """Read the arrays of both."""
        self._fitted = [part() for part in self.parts]
        for number, part in enumerate(self._fitted):
            part.load(folder / str(number), device=device)

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """The ``k`` best by the sum of reciprocal ranks."""
        shape = (len(queries), queries.catalogue.n_items + 1)
        depth = min(max(self.config.depth, k), queries.catalogue.n_items)
        score = sparse.csr_matrix(shape)
        for number, part in enumerate(self._fitted):
            item_QK = part.recommend(queries, depth).item_QK
            score = score + _reciprocal(item_QK, self.config.constant + number / 2, shape)
        history = queries.history
        row = np.repeat(np.arange(len(history)), history.lengths)
        old = sparse.csr_matrix((np.ones(len(row)), (row, history.values)), shape)
        return Ranking(*top_of_rows(score - score.multiply(old > 0), k))


def _reciprocal(item_QK: IntArray, constant: float, shape: tuple[int, int]) -> sparse.csr_matrix:
    """1 / (constant + rank) at the items of each list, float64 [Q, N + 1]."""
    row, column = np.nonzero(item_QK)
    value: FloatArray = 1.0 / (constant + column + 1)
    return sparse.csr_matrix((value, (row, item_QK[row, column])), shape)


@methods.register("text_next_id")
class TextNextId(_Fused):
    """Nearest titles of the last item and the ids right behind it."""

    parts = (LastItemTextMasked, NextId)


@methods.register("item_knn_text")
class ItemKNNText(_Fused):
    """Nearest titles of the last item and the item neighbours of the whole history."""

    parts = (LastItemTextMasked, ItemKNN)
