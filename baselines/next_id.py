"""The items that stand next in the catalogue: what the order of ids alone gives away.

Published ids follow the order of the product codes, and purchases of one day are ordered by id, so within a
day the next id is no guess at all. A method that sees ids or their order can profit from that without knowing
any taste; this floor shows by how much.
"""

from __future__ import annotations

import numpy as np

from baselines._floor import Floor
from bench.cell import Run
from bench.registry import methods
from bench.types import Exam, Queries, Ranking, Windows


@methods.register("next_id")
class NextId(Floor):
    """The items with the ids behind that of the last history item: last + 1, last + 2, ..."""

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """There is nothing to learn."""

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """Ids last + 1 .. last + k, going on with 1 behind the end of the catalogue."""
        n_items = queries.catalogue.n_items
        step_K = np.arange(min(k, n_items))
        item_QK = (queries.last_Q[:, None] + step_K) % n_items + 1
        return Ranking(item_QK.astype(np.int32))
