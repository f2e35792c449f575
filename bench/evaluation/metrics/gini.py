"""Gini: how unequally recommendations are spread over the catalogue."""

from __future__ import annotations

import numpy as np

from bench.evaluation.lists import Lists
from bench.evaluation.metrics.base import ListMetric, metrics


@metrics.register("gini")
class Gini(ListMetric):
    """Gini coefficient of how often each title of the catalogue is recommended.

    With f_1 <= ... <= f_N the frequencies of all N titles (0 for those in no list):
    sum_i (2 i - N - 1) f_i / (N sum_i f_i); 0 if all are recommended equally often, near 1 if few are.
    Source: Fleder and Hosanagar, Blockbuster culture's next rise or fall (Management Science 2009).
    """

    label = "Gini"

    def value(self, lists: Lists) -> float:
        """The coefficient, from 0 to 1."""
        frequency_D = np.sort(lists.frequency_D)
        n = lists.n_titles
        rank_D = np.arange(n - len(frequency_D) + 1, n + 1)  # titles in no list come first
        return float((2 * rank_D - n - 1) @ frequency_D / (n * frequency_D.sum()))
