"""LLaRA: each title of the history is followed by the item's vector from a recommender.

A two-layer projection maps SASRec's frozen item vectors into the language model; a curriculum shows first
titles alone and, with probability p growing over the training, titles with vectors. In the setting of the MSL
paper there is no candidate list: the prompt is BIGRec's with a slot behind each title, the answer a title.

Source: Liao et al., "LLaRA: Large Language-Recommendation Assistant", SIGIR 2024. In the released code the
counter of the curriculum restarts with every epoch, so that p never exceeds 1 / epochs
(``curriculum: linear_reset``); the paper's p = step / steps is the default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat
from torch import nn

from bench.cell import Run
from bench.registry import methods
from bench.types import Exam, Windows
from llmrec.generative._generative import prefers
from llmrec.generative._soft import (
    TOY_SASREC,
    SoftConfig,
    SoftGenerative,
    sequential,
)
from llmrec.lm.soft_tokens import ItemVectors, check_trained_on
from llmrec.prompt import Style


class LLaRAConfig(SoftConfig):
    """Configuration of LLaRA."""

    curriculum: Literal["linear", "linear_reset", "hybrid", "text"] = "linear"
    """``linear`` (paper), ``linear_reset`` (released code), ``hybrid`` (vectors always) or ``text`` (never,
    not even at inference)."""
    curriculum_unit: Literal["step", "micro"] = "step"
    """Draw once per optimizer ``step``, or per ``micro`` batch as in the released code."""
    unseen: Literal["placeholder", "raw", "mean"] = "placeholder"
    """What stands for an item without a trained vector: the ``placeholder`` of text-only prompts, its
    ``raw`` random vector (as in the released code), or the ``mean`` vector."""
    projector_wd: NonNegativeFloat = 1e-5
    """Weight decay of the projections."""


@dataclass(frozen=True)
class Growing:
    """The curriculum: a step is hybrid with probability p.

    The draw depends on the seed and the step alone, so it is the same on every rank and after a resume.

    Attributes:
        kind: how p grows, see ``LLaRAConfig.curriculum``.
        unit: what one draw is for.
        epochs: passes over the rows that the steps are cut into (``linear_reset``).
        seed: of the draws.
    """

    kind: str
    unit: str
    epochs: int
    seed: int

    def p(self, step: int, total: int) -> float:
        """Probability that a step is hybrid: 0 at the first step, 1 after the last.

        Args:
            step: number of the step, from 0.
            total: steps of the whole training.
        """
        if self.kind in {"hybrid", "text"}:
            return float(self.kind == "hybrid")
        if self.kind == "linear_reset":
            step %= max(1, total // self.epochs)
        return step / total

    def hybrid(self, step: int, total: int, micro: int = 0) -> bool:
        """Whether this step, or this micro-batch of it, is hybrid."""
        drawn = np.random.default_rng([self.seed, step, micro]).random()
        return bool(drawn < self.p(step, total))


def projector(width_in: int, width: int) -> nn.Module:
    """LLaRA's map from item vectors into the language model: linear, GELU, linear.

    Args:
        width_in: width of the vectors.
        width: of the language model.
    """
    return nn.Sequential(nn.Linear(width_in, width), nn.GELU(), nn.Linear(width, width))


@methods.register("llara")
class LLaRA(SoftGenerative):
    """Reads the history as titles with item vectors and writes the next title."""

    Config = LLaRAConfig
    toy: ClassVar = {**SoftGenerative.toy, "sasrec": TOY_SASREC}

    @classmethod
    def spreads(cls, config: Any, *, loss: str | None) -> bool:
        """Not with a draw for each micro-batch: those of several ranks are others than one rank's."""
        return config.curriculum_unit != "micro" and super().spreads(config, loss=loss)

    def style(self) -> Style:
        """A slot behind each title."""
        return replace(super().style(), item_slots=True)

    def gather(self, train: Windows, run: Run) -> ItemVectors:
        """SASRec's raw item vectors.

        Raises:
            ArtefactError: it was trained on other rows.
        """
        sasrec = sequential(run.load("sasrec"))
        check_trained_on(sasrec.seen, train, "sasrec")
        if self.config.curriculum == "text":
            return ItemVectors(sasrec.item_vectors(), np.zeros_like(sasrec.seen))
        return ItemVectors.of(sasrec.item_vectors(), sasrec.seen, self.config.unseen)

    def maps(self, width_in: int, width: int) -> dict[str, nn.Module]:
        """The projector of the items."""
        return {"item": projector(width_in, width)}

    def curriculum(self) -> Growing:
        """The configured one; a preference loss goes on from a trained projector and is always hybrid."""
        c = self.config
        kind = "hybrid" if prefers(self.loss) and c.curriculum != "text" else c.curriculum
        return Growing(kind, c.curriculum_unit, c.epochs, self._curriculum_seed)

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Tune as every method here; notes in how many steps the vectors were shown."""
        super().fit(train, valid, run)
        steps, grown = run.facts["steps"], self.curriculum()
        total = steps // run.facts["epochs"] * self.config.epochs
        if grown.unit == "step":
            run.facts["hybrid_steps"] = sum(grown.hybrid(step, total) for step in range(steps))
