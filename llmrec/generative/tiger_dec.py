"""TIGER with a decoder alone: a small Llama over semantic ids, from random weights.

The history is the codes of its last items behind a start token, the answer the codes of the next item and
an end token. There is no text, no pretrained model and no user token: most test users of a split by time have
no training rows. TIGER itself has an encoder and a decoder; this is another model under another name, so that
all losses and decoders of the suite apply as they are.

Source: Rajput et al., "Recommender Systems with Generative Retrieval", NeurIPS 2023, for semantic ids and
task; sizes and recipe are ours (a full-size T5 there, 200,000 steps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from bench.cell import Size
from bench.registry import methods
from bench.types import Catalogue, IntArray
from llmrec.generative._estimate import estimate
from llmrec.generative._search import search_space
from llmrec.generative._semantic import TOY, Semantic, SemanticConfig
from llmrec.lm import backbone as backbones
from llmrec.lm.backbone import Backbone
from llmrec.lm.names import SCRATCH
from llmrec.lm.scratch import ScratchShape
from llmrec.prompt import Prompt, Prompter
from llmrec.sid.vocabulary import CodeTokenizer
from llmrec.training.loop import Recipe


class TigerDecConfig(SemanticConfig):
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
    layers: PositiveInt = 4
    """Layers of the model."""
    heads: PositiveInt = 4
    """Attention heads; must divide the width."""
    feed_forward: PositiveInt = 512
    """Width inside the feed-forward layers."""


class CodePrompter(Prompter):
    """Makes prompts of codes: a start token and the codes of each history item.

    Args:
        token_NL: tokens of each item.
        start: the start token.
        cutoff: longest prompt plus answer, in tokens; oldest items are dropped.
    """

    def __init__(self, token_NL: IntArray, *, start: int, cutoff: int) -> None:
        self.token_NL, self.start, self.cutoff = token_NL, start, cutoff

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
        kept = list(history)[-max((self.cutoff - 1 - (width + 1)) // width, 1) :]
        ids = np.concatenate([[self.start], self.token_NL[kept].reshape(-1)]).astype(np.int32)
        return Prompt(ids, np.zeros_like(ids), len(history) - len(kept))

    def _check(self, history: Sequence[int]) -> None:
        assert len(history) and 0 < min(history) <= max(history) < len(self.token_NL), history


@methods.register("tiger_dec")
class TigerDec(Semantic):
    """Reads the history as semantic ids and writes that of the next item."""

    Config = TigerDecConfig
    tags: ClassVar[frozenset[str]] = frozenset({"text"})
    backbones: ClassVar[frozenset[str]] = frozenset()
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

    def _bare(self, device: str, kept_V: IntArray | None, config: Any = None) -> Backbone:
        c = config or self.config
        shape = ScratchShape(
            hidden=c.hidden, layers=c.layers, heads=c.heads, feed_forward=c.feed_forward
        )
        tokenizer = CodeTokenizer(self.codes)
        return backbones.small("codes", tokenizer, shape=shape, seed=self._seed, device=device)

    def make_prompter(self, catalogue: Catalogue, **options: Any) -> Prompter:
        """Makes prompts of codes."""
        return CodePrompter(
            self.codes.tokens(self.first), start=CodeTokenizer.start, cutoff=options["cutoff"]
        )

    def recipe(self) -> Recipe:
        """Hyperparameters of the optimizer, with a cosine schedule and weight decay."""
        decay = self.config.weight_decay
        return replace(super().recipe(), schedule="cosine", weight_decay=decay)
