"""Nearest titles by a sentence encoder: a pretrained model of text that was trained on no purchase at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import NonNegativeFloat

from baselines.nearest import NearestTitles
from bench.cell import Need, Run
from bench.config import Config
from bench.registry import methods
from bench.types import Catalogue, Exam, FloatArray, IntArray, Windows


class EncodedConfig(Config):
    """Who encodes the titles."""

    text_encoder: str = "minilm"
    """Encoder of titles: minilm (all-MiniLM-L6-v2), hash or a local folder."""


class EncodedHistoryConfig(EncodedConfig):
    """Who encodes the titles and how much older items count."""

    recency: NonNegativeFloat = 1.0
    """The r-th last history item counts r^-recency; 0 makes all items equal."""


class _Encoded(NearestTitles):
    """Cosine of title vectors; the stage ``title_vectors`` makes them once for all that compare them."""

    Config = EncodedConfig
    toy: ClassVar = {"text_encoder": "hash"}

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The vectors of all titles.

        Args:
            config: the method's configuration.
            loss: it has none.
            backbone: it has none.
        """
        encoder = {"text_encoder": config.text_encoder}
        return {"titles": Need(method="title_vectors", config=encoder)}

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Take the vectors over."""
        super().fit(train, valid, run)
        titles: Any = run.load("titles")
        self.state["vectors_ND"] = titles.vectors_ND

    def vectors(self, catalogue: Catalogue) -> tuple[Any, Any]:
        """The same vectors on both sides."""
        return self.state["vectors_ND"], self.state["vectors_ND"]


class _EncodedHistory(_Encoded):
    """The sum of the history's vectors, recent items first, against each title."""

    Config = EncodedHistoryConfig
    search: ClassVar = {"recency": (0.0, 0.5, 1.0, 2.0)}

    def weight(self, step_P: IntArray) -> FloatArray:
        """Power of the distance from the end."""
        return step_P.astype(np.float32) ** -self.config.recency


@methods.register("minilm_last")
class MiniLMLast(_Encoded):
    """Titles nearest to that of the last history item."""


@methods.register("minilm_last_new")
class MiniLMLastNew(_Encoded):
    """Titles nearest to that of the last history item, among the items that were never trained on."""

    among = "never_trained"


@methods.register("minilm_history")
class MiniLMHistory(_EncodedHistory):
    """Titles nearest to all titles of the history, the r-th last one counted r^-recency."""


@methods.register("minilm_history_new")
class MiniLMHistoryNew(_EncodedHistory):
    """Titles nearest to all titles of the history, among the items that were never trained on."""

    among = "never_trained"
