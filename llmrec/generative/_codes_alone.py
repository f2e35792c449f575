"""The base class of small models over semantic ids alone: no text and no pretrained model.

The prompt is the codes of the last items, the answer the codes of the next item and an end token. There is
no user token: most test users of a split by time have no training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from bench.cell import Size
from bench.types import Catalogue, IntArray
from llmrec.generative._estimate import estimate
from llmrec.generative._search import search_space
from llmrec.generative._semantic import TOY, Semantic, SemanticConfig
from llmrec.lm.names import SCRATCH
from llmrec.lm.scratch import ScratchShape
from llmrec.prompt import Prompt, Prompter
from llmrec.sid.vocabulary import CodeTokenizer
from llmrec.training.loop import Recipe


class CodesAloneConfig(SemanticConfig):
    """Recipe of a small model over codes; options of pretrained models have no effect."""

    epochs: PositiveInt = 50
    """Passes over the training rows; the best by validation NDCG@5 is kept."""
    patience: PositiveInt | None = 5
    """Epochs without improvement before training ends; null for never."""
    batch: PositiveInt = 256
    """Rows per optimizer step."""
    scratch_lr: PositiveFloat = 1e-3
    """Peak learning rate; it falls along a cosine."""
    warmup_steps: NonNegativeInt = 100
    """Steps of linear warm-up, at most a tenth of all."""
    weight_decay: NonNegativeFloat = 0.035
    """Weight decay of AdamW."""
    history: PositiveInt | None = 10
    """Most recent items shown; null for all that fit."""
    hidden: PositiveInt = 128
    """Width of the model."""
    heads: PositiveInt = 4
    """Attention heads; must divide the width."""
    feed_forward: PositiveInt = 512
    """Width inside the feed-forward layers."""


class CodePrompter(Prompter):
    """Makes prompts of codes: those of each history item, behind a start token where there is one.

    Args:
        token_NL: tokens of each item.
        start: the start token; None for prompts without.
        cutoff: longest prompt plus answer, in tokens; oldest items are dropped.
    """

    def __init__(self, token_NL: IntArray, *, start: int | None, cutoff: int) -> None:
        self.token_NL, self.cutoff = token_NL, cutoff
        self.opening = np.array([] if start is None else [start], np.int32)

    @property
    def shared(self) -> int:
        """None: the start token alone is not worth a forward pass of its own."""
        return 0

    def prompt(
        self, history: Sequence[int], *, training: bool = False, answer: int | None = None
    ) -> Prompt:
        """The prompt for a history.

        Args:
            history: item ids, oldest first.
            training: makes no difference.
            answer: makes no difference; all answers have one length.
        """
        self._check(history)
        width = self.token_NL.shape[1]
        room = self.cutoff - len(self.opening) - (width + 1)
        kept = list(history)[-max(room // width, 1) :]
        ids = np.concatenate([self.opening, self.token_NL[kept].reshape(-1)]).astype(np.int32)
        return Prompt(ids, np.zeros_like(ids), len(history) - len(kept))

    def _check(self, history: Sequence[int]) -> None:
        assert len(history) and 0 < min(history) <= max(history) < len(self.token_NL), history


class CodesAlone(Semantic):
    """Reads the history as semantic ids and writes that of the next item; subclasses build the model.

    Class attributes:
        prompts_begin: the token in front of a prompt's codes; None for none.
    """

    Config = CodesAloneConfig
    tags: ClassVar[frozenset[str]] = frozenset({"text"})
    backbones: ClassVar[frozenset[str]] = frozenset()
    prompts_begin: ClassVar[int | None] = CodeTokenizer.start
    toy: ClassVar[Mapping[str, Any]] = {
        **{name: value for name, value in TOY.items() if name != "backbone"},
        "hidden": 32,
        "layers": 1,
        "heads": 2,
        "feed_forward": 48,
    }

    @property
    def first(self) -> int:
        """Behind end and start."""
        return CodeTokenizer.first

    @classmethod
    def search_space(
        cls, config: Any, *, loss: str | None, backbone: str | None
    ) -> Mapping[str, tuple[Any, ...]]:
        """The learning rate and what the loss declares."""
        return search_space(cls.Config, loss=loss, backbone=SCRATCH)

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float | None:
        """As a language model of this shape whose prompts are short."""
        return estimate(config, replace(size, backbone=SCRATCH, characters=0.0))

    def make_prompter(self, catalogue: Catalogue, **options: Any) -> Prompter:
        """Makes prompts of codes."""
        token_NL = self.codes.tokens(self.first)
        return CodePrompter(token_NL, start=self.prompts_begin, cutoff=options["cutoff"])

    def recipe(self) -> Recipe:
        """Hyperparameters of the optimizer, with a cosine schedule and weight decay."""
        decay = self.config.weight_decay
        return replace(super().recipe(), schedule="cosine", weight_decay=decay)


def shape_of(config: Any) -> ScratchShape:
    """The size of the model that a configuration asks for."""
    return ScratchShape(
        hidden=config.hidden,
        layers=config.layers,
        heads=config.heads,
        feed_forward=config.feed_forward,
    )
