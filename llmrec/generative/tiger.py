"""TIGER: a small T5 over semantic ids, from random weights.

The encoder reads the codes of the last items, the decoder writes the codes of the next item and an end token
behind a start token. Embeddings are shared by encoder, decoder and head; positions are relative, as in T5.
Rows are trained in padded batches: prompt and answer stand in no one sequence, so there is no common opening
to share and rows cannot stand end to end. All losses apply, a preference loss by its plain route.

Source: Rajput et al., "Recommender Systems with Generative Retrieval", NeurIPS 2023, for model and task;
there is no official code. Departures: 2 + 2 layers of 4 heads x 32 and a feed-forward width of 512, where the
paper has 4 + 4 layers of 6 heads x 64 and 1024; no user token, as most test users of a split by time have no
training rows; AdamW with a cosine schedule for 50 epochs at most, where the paper has an inverse square root
over 200,000 steps; the last 10 items, not 20; titles alone make the semantic ids; answers are held to the
trie of all ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from bench.cell import Size
from bench.registry import methods
from bench.types import IntArray
from llmrec.generative._codes_alone import CodesAlone, CodesAloneConfig, shape_of
from llmrec.lm.backbone import Backbone
from llmrec.lm.encoder_decoder import small_t5
from llmrec.sid.vocabulary import CodeTokenizer


class TigerConfig(CodesAloneConfig):
    """Recipe of a small T5 over codes; options of pretrained models have no effect."""

    layers: PositiveInt = 2
    """Layers of the encoder, and of the decoder."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of activations and attention weights set to 0 in training."""
    share_opening: bool = False
    """Prompts of codes have no opening in common; this has no effect."""
    rows: Literal["auto", "padded", "packed"] = "padded"
    """``padded`` batches; an encoder-decoder cannot train rows end to end, so others are replaced by it."""
    compile: Literal["auto", "on", "off"] = "off"
    """Whether the encoder's layers are compiled; the lengths of prompts are too many for it to pay."""


@methods.register("tiger")
class Tiger(CodesAlone):
    """Reads the history as semantic ids by an encoder and writes that of the next item by a decoder."""

    Config = TigerConfig
    prompts_begin = None
    not_decoded_by: ClassVar[Mapping[str, str]] = {
        "ground": "it compares texts by the states of one sequence, which an encoder-decoder does not have"
    }
    # draws of dropout may differ between versions of torch
    toy: ClassVar[Mapping[str, Any]] = {**CodesAlone.toy, "dropout": 0.0}

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float | None:
        """As a language model with the layers of encoder and decoder."""
        return super().estimate_seconds(config.replace(layers=2 * config.layers), size)

    def _bare(self, device: str, kept_V: IntArray | None, config: Any = None) -> Backbone:
        c = config or self.config
        tokenizer, start = CodeTokenizer(self.codes), CodeTokenizer.start
        return small_t5(
            "codes",
            tokenizer,
            shape=shape_of(c),
            start=start,
            dropout=c.dropout,
            seed=self._seed,
            device=device,
        )
