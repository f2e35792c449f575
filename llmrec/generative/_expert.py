"""The second model that a decoder asks: where its scores come from, and how it is kept.

B queries, N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import Need, Run
from bench.method import Method, configure, keep, restore
from bench.registry import decoders, methods
from bench.types import FloatArray, IntArray, Queries, Windows
from llmrec.decode.expert import ItemScores
from llmrec.lm.soft_tokens import check_trained_on

EXPERT = "expert"  # the need, the option of the decoder, and the folder of what is kept
COUNTS = "expert_count.npy"


def sasrec_need(config: Any) -> Need:
    """The SASRec that a config asks for.

    Args:
        config: has its options as ``sasrec`` and its loss as ``sasrec_loss``.

    Raises:
        ConfigError: SASRec does not know an option.
    """
    configure(methods.get("sasrec"), config.sasrec)
    return Need(method="sasrec", loss=config.sasrec_loss, config=dict(config.sasrec))


def expert_need(options: Mapping[str, Any]) -> Mapping[str, Need]:
    """The cell of the model that a decoder asks, if it asks one that has to be trained.

    Args:
        options: of the decoder, with every default; only ``d3`` has an ``expert``.
    """
    if EXPERT not in options:
        return {}
    kind: Any = decoders.get("d3")
    decoder = kind(configure(kind, options, stored=True))
    return {EXPERT: sasrec_need(decoder.config)} if decoder.asks == "sasrec" else {}


class Expert:
    """A second model that scores items.

    Attributes:
        method: a fitted recommender, or None for the popularity in the training rows.
        count_N: how often each item is a training target, where there is no method.
    """

    def __init__(self, method: Method | None, count_N: IntArray | None = None) -> None:
        self.method, self.count_N = method, count_N

    @classmethod
    def called(cls, name: str, train: Windows, run: Run) -> Expert:
        """The expert that a decoder asks.

        Args:
            name: ``sasrec`` or ``popularity``.
            train: training rows.
            run: has the fitted model among its inputs.

        Raises:
            ArtefactError: it was trained on other rows.
        """
        if name == "popularity":
            return cls(None, train.target_count)
        method: Any = run.load(EXPERT)
        check_trained_on(method.seen, train, name)
        return cls(method)

    def scores(self, queries: Queries) -> ItemScores:
        """A function from numbers of these queries to scores of the items 1..N, [B, N]."""
        if self.method is None:
            assert self.count_N is not None, "neither a model nor counts"
            with np.errstate(divide="ignore"):  # a title that was never a target has mass 0
                log_N = np.log(self.count_N[1:].astype(np.float64))
            return lambda query_B: np.tile(log_N, (len(query_B), 1))
        method, n_items = self.method, queries.catalogue.n_items

        def ranked(query_B: IntArray) -> FloatArray:
            ranking = method.recommend(queries.take(query_B), n_items)
            assert ranking.score_QK is not None, f"{method.name} gives no scores"
            score_BN = np.full((len(query_B), n_items + 1), -np.inf)
            np.put_along_axis(score_BN, ranking.item_QK.astype(np.int64), ranking.score_QK, 1)
            return score_BN[:, 1:]

        return ranked

    def save(self, folder: Path) -> None:
        """Keep the model, or the counts."""
        if self.method is not None:
            keep(self.method, folder / EXPERT)
        elif self.count_N is not None:
            np.save(folder / COUNTS, self.count_N)

    @classmethod
    def kept(cls, folder: Path, device: str) -> Expert | None:
        """What ``save`` wrote, or None if there is nothing.

        Args:
            folder: where it wrote.
            device: to put a model on.
        """
        if (folder / COUNTS).is_file():
            return cls(None, np.load(folder / COUNTS, allow_pickle=False))
        return cls(restore(folder / EXPERT, device=device)) if (folder / EXPERT).is_dir() else None
