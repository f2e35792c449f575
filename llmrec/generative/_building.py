"""Builds the backbone of a generative method, before training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from bench.types import Catalogue, IntArray, Windows
from llmrec.generative._config import GenerativeConfig
from llmrec.lm import backbone as backbones
from llmrec.lm.backbone import Backbone
from llmrec.lm.lora import Lora
from llmrec.lm.names import SCRATCH, TINY_NAME
from llmrec.lm.scratch import CompactTokenizer, ScratchShape
from llmrec.prompt import all_texts
from llmrec.trie import Trie


class Order(NamedTuple):
    """What is needed beside the configuration to build a backbone.

    Attributes:
        name: of the backbone.
        device: where it goes.
        seed: for random weights and adapters.
        adapters: False leaves a pretrained model as it is.
    """

    name: str
    device: str
    seed: int
    adapters: bool


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
        ConfigError: adapters that do not fit the model.
    """
    c, name = config, order.name
    if name == SCRATCH:
        shape = ScratchShape(
            hidden=c.hidden, layers=c.layers, heads=c.heads, feed_forward=c.feed_forward
        )
        tokenizer = backbones.embedded_tokenizer(kept_V)
        return backbones.small(name, tokenizer, shape=shape, seed=order.seed, device=order.device)
    lora = None
    if order.adapters and c.lora_r and name != TINY_NAME:
        lora = Lora(r=c.lora_r, alpha=c.lora_alpha, dropout=c.lora_dropout, targets=c.lora_targets)
    lm = backbones.load(
        name,
        dtype=_dtype(c, order, whole=order.adapters and c.whole),
        device=order.device,
        seed=order.seed,
        lora=lora,
        quant=None if name == TINY_NAME else c.quant,
    )
    if name != TINY_NAME and c.pad_token and lm.tokenizer.pad_token_id is None:
        _add_pad(lm, order.seed)
    return lm


def facts_of(lm: Backbone, trie: Trie, train: Windows) -> dict[str, Any]:
    """What a row says of its language model and its catalogue.

    Args:
        lm: the model.
        trie: the titles.
        train: training rows, for the mean number of valid tokens.
    """
    return {
        "backbone": lm.name,
        "pretrained": lm.pretrained,
        "quant": lm.quant,
        "lora_targets": lm.adapted_maps,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "vocabulary": lm.vocabulary,
        "trie_leaves": trie.n_leaves,
        "avt": trie.avt(train.target_W),
        "parameters_total": sum(p.numel() for p in lm.parameters()),
    }


def _dtype(config: GenerativeConfig, order: Order, *, whole: bool) -> torch.dtype:
    """Precision of the weights: bfloat16 where the device multiplies it in one instruction.

    Weights that are all trained (``whole``) stay in float32: AdamW's steps are mostly smaller than
    bfloat16 can add, and its moments come in the weights' precision.
    """
    if order.name == TINY_NAME:
        return torch.float32
    if config.dtype != "auto":
        named: torch.dtype = getattr(torch, config.dtype)
        return named
    return torch.float32 if whole or not has_bfloat16(order.device) else torch.bfloat16


def has_bfloat16(device: str) -> bool:
    """Whether a device has instructions for bfloat16; without them it is slower than float32."""
    if device != "cpu":
        return True
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _add_pad(lm: Backbone, seed: int) -> None:
    """A pad token as the released code adds it, with a row of its own in embedding and head.

    transformers draws the row around the mean of the others and no checkpoint holds it, so it has to
    depend on the seed alone: a restored model gets the same.
    """
    lm.tokenizer.add_special_tokens({"pad_token": "<pad>"})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        lm.causal.resize_token_embeddings(len(lm.tokenizer))
