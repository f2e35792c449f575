"""TIGER with a decoder alone: a small Llama over semantic ids, from random weights.

The history is the codes of its last items behind a start token, the answer the codes of the next item and
an end token. There is no text, no pretrained model and no user token. TIGER itself has an encoder and a
decoder (``tiger``); this is another model under another name.

Source: Rajput et al., "Recommender Systems with Generative Retrieval", NeurIPS 2023, for semantic ids and
task; sizes and recipe are ours (a full-size T5 there, 200,000 steps).
"""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from bench.registry import methods
from bench.types import IntArray
from llmrec.generative._codes_alone import CodesAlone, CodesAloneConfig, shape_of
from llmrec.lm import backbone as backbones
from llmrec.lm.backbone import Backbone
from llmrec.sid.vocabulary import CodeTokenizer


class TigerDecConfig(CodesAloneConfig):
    """Recipe of a small Llama over codes; options of pretrained models have no effect."""

    layers: PositiveInt = 4
    """Layers of the model."""


@methods.register("tiger_dec")
class TigerDec(CodesAlone):
    """Reads the history as semantic ids and writes that of the next item."""

    Config = TigerDecConfig

    def _bare(self, device: str, kept_V: IntArray | None, config: Any = None) -> Backbone:
        shape, tokenizer = shape_of(config or self.config), CodeTokenizer(self.codes)
        return backbones.small("codes", tokenizer, shape=shape, seed=self._seed, device=device)
