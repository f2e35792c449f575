"""Configuration shared by the methods in which a language model writes the title of the next item."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.errors import ConfigError
from bench.registry import Registry, decoders, losses
from llmrec.options import written
from llmrec.training.loop import Recipe

ZERO_SHOT = "zero_shot"


@dataclass(frozen=True, kw_only=True)
class GenerativeConfig:
    """Recipe of the paper's LLM methods (MSL, Section 5.1.3); defaults are the authors'.

    Attributes:
        epochs: passes over the training rows; the best by validation NDCG@5 is kept.
        lr: peak learning rate with adapters, or of all weights of a pretrained model (``lora_r: 0``).
        scratch_lr: the same for a backbone without pretraining, whose weights are all trained.
        batch: rows per optimizer step.
        warmup_steps: linear warm-up, at most a tenth of all steps; then linear to 0.
        clip: largest gradient norm.
        patience: epochs without improvement before training ends; None for never.
        micro_batch: rows per forward pass; None finds it.
        cutoff: longest prompt plus answer in tokens; oldest history items are dropped to fit.
        answer_budget: tokens kept free for the answer at inference.
        history: most recent items shown; None for all.
        valid_rows: validation queries decoded after each epoch (a fixed sample); None for all.
        lora_r, lora_alpha, lora_dropout, lora_targets: adapters; ``lora_r: 0`` trains all weights.
        quant: 8 or 4 for quantised frozen weights, None for none.
        dtype: ``auto`` (bfloat16 on GPUs and on CPUs with instructions for it, float32 elsewhere and
            where all weights are trained), ``float32`` or ``bfloat16``.
        hidden, layers, heads, feed_forward: shape of the backbone ``scratch``.
        share_opening: compute the opening words of all prompts once per micro-batch. Exact without
            adapter dropout; with it, the rows of a micro-batch share one draw for these words.
        loss_options: options of the loss, or by name of a loss the options of that loss.
        decoder_options: the same for the decoder.
        report_to: ``none``, ``tensorboard`` or ``wandb``.
    """

    epochs: int = 10
    lr: float = 1e-4
    scratch_lr: float = 1e-3
    batch: int = 128
    warmup_steps: int = 20
    clip: float = 1.0
    patience: int | None = None
    micro_batch: int | None = None
    cutoff: int = 512
    answer_budget: int = 128
    history: int | None = None
    valid_rows: int | None = 500
    lora_r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    quant: int | None = None
    dtype: str = "auto"
    hidden: int = 128
    layers: int = 2
    heads: int = 2
    feed_forward: int = 384
    share_opening: bool = True
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    decoder_options: Mapping[str, Any] = field(default_factory=dict)
    report_to: str = "none"

    @property
    def whole(self) -> bool:
        """Whether all weights of a pretrained model are trained."""
        return self.lora_r == 0

    def __post_init__(self) -> None:
        low = {
            "epochs": 1,
            "batch": 1,
            "warmup_steps": 0,
            "cutoff": 2,
            "answer_budget": 1,
            "lora_r": 0,
        }
        optional = {"patience": 1, "micro_batch": 1, "history": 1, "valid_rows": 0}
        low |= {key: least for key, least in optional.items() if getattr(self, key) is not None}
        for key, least in low.items():
            if not getattr(self, key) >= least:
                raise ConfigError(f"{key} is {getattr(self, key)}; it must be at least {least}")
        for key in ("lr", "scratch_lr", "clip"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"{key} is {getattr(self, key)}; it must be positive")
        if self.dtype not in {"auto", "float32", "bfloat16"}:
            raise ConfigError(f"dtype is {self.dtype!r}; allowed are auto, float32, bfloat16")
        if self.quant not in {None, 4, 8}:
            raise ConfigError(f"quant is {self.quant}; allowed are 8, 4 and None")
        if self.quant is not None and self.whole:
            raise ConfigError(
                f"quant is {self.quant} and lora_r is 0; quantised weights are trained by adapters only"
            )
        if self.hidden % self.heads:
            raise ConfigError(
                f"hidden is {self.hidden}; it must be a multiple of heads ({self.heads})"
            )


def options_for(options: Mapping[str, Any], name: str | None, known: Registry) -> dict[str, Any]:
    """The options meant for one loss or decoder, where a config may hold those of several by name."""
    if any(key in known for key in options):
        return dict(options.get(name or "", {}))
    return dict(options)


def completed(config: Any, *, loss: str | None, decoder: str | None) -> Any:
    """``config`` with every option of its loss and decoder written out.

    Raises:
        ConfigError: an unknown option or a value out of range.
    """
    given = options_for(config.loss_options, loss, losses)
    wanted: Mapping[str, Any] = {}
    if loss is not None and loss != ZERO_SHOT:
        wanted = written(losses.get(loss).complete(given))
    decoding = options_for(config.decoder_options, decoder, decoders)
    if decoder is not None:
        decoding = written(decoders.get(decoder)(decoding).config)
    return dataclasses.replace(config, loss_options=wanted, decoder_options=decoding)


def recipe_of(config: GenerativeConfig, *, pretrained: bool) -> Recipe:
    """The optimizer's side of a config; weights without pretraining have a learning rate of their own."""
    return Recipe(
        epochs=config.epochs,
        lr=config.lr if pretrained else config.scratch_lr,
        batch=config.batch,
        warmup_steps=config.warmup_steps,
        micro_batch=config.micro_batch,
        clip=config.clip,
        patience=config.patience,
        report_to=config.report_to,
    )
