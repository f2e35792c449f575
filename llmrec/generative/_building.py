"""The backbone a generative method asks for, before training."""

from __future__ import annotations

from typing import NamedTuple

import torch

from bench.types import Catalogue, IntArray
from llmrec import backbone as backbones
from llmrec._small import CompactTokenizer, Shape
from llmrec.backbone import SCRATCH, TINY_NAME, Backbone, Lora
from llmrec.generative._config import GenerativeConfig
from llmrec.prompt import all_texts


class Order(NamedTuple):
    """What is wanted beside the config.

    Attributes:
        name: of the backbone.
        device: where it goes.
        seed: for random weights and adapters.
        adapters: False leaves a pretrained model as it is.
        faithful: the switches of the released code: 8-bit weights on a GPU, and an added pad token.
    """

    name: str
    device: str
    seed: int
    adapters: bool
    faithful: bool


def kept_tokens(catalogue: Catalogue) -> IntArray:
    """Tokens of the embedded tokenizer that prompts and titles of a catalogue use, ascending."""
    return CompactTokenizer.of(backbones.embedded_tokenizer(), all_texts(catalogue)).kept_V


def build(config: GenerativeConfig, order: Order, kept_V: IntArray | None) -> Backbone:
    """The backbone.

    Args:
        config: adapters, precision and, for ``scratch``, the shape.
        order: the rest.
        kept_V: the vocabulary of ``scratch``.

    Raises:
        Unavailable: weights or packages are missing.
    """
    c, name = config, order.name
    if name == SCRATCH:
        shape = Shape(hidden=c.hidden, layers=c.layers, heads=c.heads, feed_forward=c.feed_forward)
        tokenizer = backbones.embedded_tokenizer(kept_V)
        return backbones.small(name, tokenizer, shape=shape, seed=order.seed, device=order.device)
    if name == TINY_NAME:
        return backbones.load(name, device=order.device, seed=order.seed)
    lora = None
    if order.adapters and c.lora_r:
        sizes = {"r": c.lora_r, "alpha": c.lora_alpha, "dropout": c.lora_dropout}
        lora = Lora(**sizes, targets=c.lora_targets)
    quant = 8 if order.faithful and order.device != "cpu" and c.quant is None else c.quant
    lm = backbones.load(
        name,
        dtype=None if c.dtype == "auto" else getattr(torch, c.dtype),
        device=order.device,
        seed=order.seed,
        lora=lora,
        quant=quant,
    )
    if order.faithful and lm.tokenizer.pad_token_id is None:
        lm.tokenizer.add_special_tokens({"pad_token": "<pad>"})
        lm.causal.resize_token_embeddings(len(lm.tokenizer))
    return lm
