"""Coverage of the catalogue."""

from __future__ import annotations

import numpy as np

from bench.evaluation.lists import Lists
from bench.evaluation.metrics.base import ListMetric, metrics


@metrics.register("coverage")
class Coverage(ListMetric):
    """Share of the catalogue's titles that are in at least one list: |union of the lists| / titles.

    Source: Herlocker et al., Evaluating collaborative filtering recommender systems (TOIS 2004).
    """

    label = "Coverage"

    def value(self, lists: Lists) -> float:
        """The share, from 0 to 1."""
        return float(np.count_nonzero(lists.frequency_D)) / lists.n_titles
