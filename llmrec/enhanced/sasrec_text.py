"""SASRec over title vectors (UniSRec's recipe, Hou et al., KDD 2022, without its pre-training).

A sentence encoder reads each title once; its vectors are whitened, a small learned map makes item vectors
of them, and SASRec ranks the whole catalogue by the cosine, never-trained items too. Departures from
UniSRec: the whitening is computed instead of learned, items of no training row have no id vector instead of
an untrained one, and every interaction is trained once.

Axes: N items, R width of whitened vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from baselines.sequential import Sequential, SequentialConfig
from bench.cell import K, Need, Run, Size
from bench.config import Config
from bench.errors import ConfigError
from bench.registry import methods
from bench.types import BoolArray, Exam, FloatArray, Queries, Ranking, Windows
from llmrec.lm.names import EMBEDDED, SCRATCH
from llmrec.title_whitening import (
    FitOn,
    Whiten,
    fit_titles,
    fit_whitening,
    mean_cosine,
    require_finite,
)


class SASRecTextConfig(SequentialConfig):
    """SASRec's configuration, and how titles become item vectors."""

    text_encoder: str = "minilm"
    """Encoder of titles: minilm, backbone, hash or a local folder with a sentence encoder."""
    text_backbone: str = EMBEDDED
    """Language model whose states are meant by text_encoder ``backbone``; not read otherwise."""
    whiten: Whiten = "pca"
    """Whitening of the title vectors: none, center, pca or zca."""
    whiten_width: PositiveInt | None = None
    """Directions that ``pca`` keeps; null for at most 128."""
    fit_on: FitOn = "seen"
    """Titles that the whitening is fitted on: those of the training rows, or all (transductive)."""
    adapter: Literal["linear", "moe"] = "linear"
    """Map from title vectors to item vectors: one matrix, or UniSRec's mixture of experts."""
    experts: PositiveInt = 4
    """Experts of ``moe`` (UniSRec: 8); not read otherwise."""
    adapter_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout of the title vectors in front of the map."""
    ids: Literal["none", "add"] = "none"
    """``add`` gives every item of the training rows a vector of its own beside that of its title."""
    negatives: FitOn = "seen"
    """Items in the softmax of the training: those of the training rows, or all, which makes the never-trained
    ones pure negatives (transductive)."""
    tau: PositiveFloat = 0.07
    """Temperature: scores are cosines divided by it."""

    @model_validator(mode="after")
    def _only_pca_has_a_width(self) -> Self:
        if self.whiten_width is not None and self.whiten != "pca":
            raise ConfigError(
                f"whiten_width is {self.whiten_width} with whiten {self.whiten!r}; only pca has a width"
            )
        return self


@methods.register("sasrec_text")
class SASRecText(Sequential):
    """SASRec that knows items by their titles alone, or by titles and ids."""

    family = "enhanced"
    Config: ClassVar[type[Config]] = SASRecTextConfig
    tags = frozenset({"text"})
    search: ClassVar = {
        "learning_rate": (1e-3, 3e-4),
        "dropout": (0.2, 0.5),
        "whiten": ("none", "pca"),
        "negatives": ("seen", "all"),
    }
    toy: ClassVar = {"text_encoder": "hash", "epochs": 3, "hidden_size": 16, "inner_size": 32}

    _title_NR: FloatArray | None = None

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The vectors of all titles."""
        encoder = {"text_encoder": config.text_encoder}
        if config.text_encoder != "backbone":
            return {"titles": Need(method="title_vectors", config=encoder)}
        if config.text_backbone == SCRATCH:
            raise ConfigError(
                f"text_backbone is {SCRATCH!r}, whose weights are random; give a pretrained "
                f"one, e.g. {EMBEDDED}"
            )
        need = Need(method="title_vectors", backbone=config.text_backbone, config=encoder)
        return {"titles": need}

    @classmethod
    def module(cls) -> type:
        """The torch class."""
        from llmrec.enhanced._text_model import TextModel

        return TextModel

    def options(self) -> dict[str, Any]:
        """The loss, the temperature and the map."""
        c = self.config
        return self.trained_with("ce_all") | {
            "tau": c.tau,
            "text": {
                "width": 0 if self._title_NR is None else self._title_NR.shape[1],
                "ids": c.ids,
                "negatives": c.negatives,
                "experts": c.experts if c.adapter == "moe" else None,
                "dropout": c.adapter_dropout,
            },
        }

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Whiten the title vectors, then train the map and SASRec together.

        Raises:
            DataError: fewer than two distinct titles, a vector that is not finite, or no row with a history.
            ConfigError: ``whiten_width`` is more than the titles allow.
        """
        titles: Any = run.load("titles")
        vector_ND: FloatArray = titles.vectors_ND
        require_finite(vector_ND, train.catalogue.titles)
        self._title_NR = self._whitened(vector_ND, train)
        super().fit(train, valid, run)
        self.model.fold()
        run.facts.update(self._facts(vector_ND, train.seen))
        run.facts.update(self._cold(valid))
        self._title_NR = None

    def _whitened(self, vector_ND: FloatArray, train: Windows) -> FloatArray:
        c = self.config
        fit_F = fit_titles(train.catalogue, train.seen if c.fit_on == "seen" else None)
        whitening = fit_whitening(vector_ND[fit_F], c.whiten, c.whiten_width)
        return whitening(vector_ND)

    def prepare(self, model: Any, train: Windows, run: Run) -> None:
        """Attach the title vectors to the module."""
        super().prepare(model, train, run)
        assert self._title_NR is not None, "the titles are whitened first"
        twin_N = train.catalogue.title_class.astype(np.int64)
        model.attach(self._title_NR, train.seen, twin_N)

    def _facts(self, vector_ND: FloatArray, seen_N: BoolArray) -> dict[str, Any]:
        """Width, mean cosines of title, whitened and item vectors, and lengths of item vectors."""
        assert self._title_NR is not None, "the titles are whitened first"
        item_ND = self.model.folded_ND.cpu().numpy()[1:]
        length_N = np.linalg.norm(item_ND, axis=1)
        known_N = seen_N[1:]
        facts: dict[str, Any] = {
            "text_width": self._title_NR.shape[1],
            "cosine_titles": mean_cosine(vector_ND[1:]),
            "cosine_whitened": mean_cosine(self._title_NR[1:]),
            "cosine_items": mean_cosine(item_ND),
        }
        for name, part in (("norm_seen", known_N), ("norm_cold", ~known_N)):
            if part.any():
                facts[name] = float(length_N[part].mean())
        if "all" in (self.config.fit_on, self.config.negatives):
            facts["variant"] = "transductive"
        return facts

    def _cold(self, valid: Exam) -> dict[str, float]:
        """Share of never-trained items in the validation's lists and among its targets."""
        if not len(valid):
            return {}
        share = self.recommend(valid.queries, K).facts["cold_share"]
        return {
            "valid_cold_share": float(share),
            "valid_cold_targets": float((~self.seen[valid.target_Q]).mean()),
        }

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """The ``k`` items with the highest scores; the history is not excluded."""
        ranking = super().recommend(queries, k)
        return Ranking(
            ranking.item_QK,
            ranking.score_QK,
            facts={"cold_share": cold_share(ranking, self.seen)},
        )

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """SASRec's estimate, and the map of all titles in every step."""
        return 1.5 * super().estimate_seconds(config, size)


def cold_share(ranking: Ranking, seen_N: BoolArray) -> float:
    """Share of never-trained items among the listed ones, 0 where nothing is listed.

    Args:
        ranking: the lists.
        seen_N: items of the training rows, [N + 1].
    """
    listed = ranking.item_QK[ranking.item_QK > 0]
    return float((~seen_N[listed]).mean()) if len(listed) else 0.0
