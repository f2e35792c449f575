"""How much of what is recommended was never trained on."""

from __future__ import annotations

from bench.evaluation.lists import Lists
from bench.evaluation.metrics.base import ListMetric, metrics


@metrics.register("untrained")
class Untrained(ListMetric):
    """Share of recommendations whose title occurs nowhere in the training windows.

    The counterpart of the cold targets: a model of item ids cannot have learned anything of these titles.
    Source: this suite; the same rule as its stratum ``cold``, by title.
    """

    label = "Never trained"

    def value(self, lists: Lists) -> float:
        """The share, from 0 to 1."""
        frequency_D = lists.frequency_D
        return float(frequency_D[~lists.seen_D].sum() / frequency_D.sum())
