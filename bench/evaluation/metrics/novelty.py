"""Novelty: how rare in training what is recommended is."""

from __future__ import annotations

import numpy as np

from bench.evaluation.lists import Lists
from bench.evaluation.metrics.base import ListMetric, metrics


@metrics.register("novelty")
class Novelty(ListMetric):
    """Mean self-information of the recommended titles, in bits: mean of -log2 p.

    p = (c + 1) / (n + N), where c is how often the title is a training target, n the number of training
    targets and N that of titles; adding one keeps titles never trained on finite. Source: Zhou et al.,
    Solving the apparent diversity-accuracy dilemma of recommender systems (PNAS 2010), eq. for I_i.
    """

    label = "Novelty bits"

    def value(self, lists: Lists) -> float:
        """Bits a recommendation."""
        share_D = (lists.count_D + 1.0) / (lists.n_train + lists.n_titles)
        return float(np.average(-np.log2(share_D), weights=lists.frequency_D))
