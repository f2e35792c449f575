"""Configuration shared by the methods in which a language model writes the title of the next item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from bench.config import Config, later
from bench.errors import ConfigError
from bench.experiment.profiles import own_options
from bench.method import configure
from bench.registry import decoders, losses
from llmrec.training.loop import Recipe

ZERO_SHOT = "zero_shot"


class GenerativeConfig(Config):
    """Recipe of the paper's LLM methods (MSL, Section 5.1.3); defaults are the authors'."""

    epochs: PositiveInt = 10
    """Passes over the training rows; the best by validation NDCG@5 is kept."""
    lr: PositiveFloat = 1e-4
    """Peak learning rate with adapters, or of all weights of a pretrained model (``lora_r: 0``)."""
    scratch_lr: PositiveFloat = 1e-3
    """The same for a backbone without pretraining, whose weights are all trained."""
    batch: PositiveInt = 128
    """Rows per optimizer step."""
    warmup_steps: NonNegativeInt = 20
    """Steps of linear warm-up, at most a tenth of all; then the rate falls linearly to 0."""
    clip: PositiveFloat = 1.0
    """Largest gradient norm."""
    patience: PositiveInt | None = None
    """Epochs without improvement before training ends; null for never."""
    micro_batch: PositiveInt | None = None
    """Rows per forward pass; null finds it."""
    cutoff: Annotated[int, Field(ge=2)] = 512
    """Longest prompt plus answer in tokens; oldest history items are dropped to fit."""
    answer_budget: PositiveInt = 128
    """Tokens kept free for the answer at inference."""
    fit_history: bool = True
    """Drop the oldest history items of a prompt that is too long, instead of leaving it as it is."""
    cut_answers: bool = False
    """Train a row whose prompt was left too long on what the cutoff leaves of its answer, and leave out rows
    of which it leaves nothing; matters where ``fit_history`` is false."""
    infer_extra_space: bool = False
    """End the preamble in two spaces at inference, where training prompts have one."""
    pad_token: bool = False
    """Give a tokenizer that has no padding token a new one, with a row of its own in embedding and head."""
    history: PositiveInt | None = None
    """Most recent items shown; null for all."""
    valid_rows: NonNegativeInt | None = 500
    """Validation queries decoded after each epoch (a fixed sample); null for all."""
    lora_r: NonNegativeInt = 8
    """Rank of the adapters; 0 trains all weights."""
    lora_alpha: PositiveInt = 16
    """Scale of the adapters, divided by their rank."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout in front of the adapters."""
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Linear maps that get an adapter."""
    quant: Literal[4, 8] | None = None
    """Bits of quantised frozen weights, null for none."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision; ``auto`` is bfloat16 on GPUs and on CPUs with instructions for it, float32 elsewhere and
    where all weights are trained."""
    inference_dtype: Literal["float32", "bfloat16"] | None = None
    """Precision in which a pretrained model is loaded anew after training, unquantised, its adapters merged;
    null decodes with the model as it was trained."""
    hidden: PositiveInt = 128
    """Width of the backbone ``scratch``."""
    layers: PositiveInt = 2
    """Layers of the backbone ``scratch``."""
    heads: PositiveInt = 2
    """Attention heads of the backbone ``scratch``; must divide its width."""
    feed_forward: PositiveInt = 384
    """Feed-forward width of the backbone ``scratch``."""
    share_opening: bool = True
    """Compute the opening words of all prompts once per micro-batch. Exact without adapter dropout; with
    it, the rows of a micro-batch share one draw for these words."""
    rows: Literal["auto", "padded", "packed"] = later(default="auto")
    """How rows are trained: ``padded`` batches, ``packed`` end to end in rows of tokens, which is equal but
    for rounding and the draws of dropout, or ``auto`` for what is cheaper on the device: packed on a GPU."""
    compile: Literal["auto", "on", "off"] = later(default="auto")
    """Whether training compiles the model's layers (torch.compile); ``auto`` does on a GPU. Equal but for
    rounding and the draws of dropout."""
    tf32: bool = later(default=False)
    """Multiply float32 matrices in TensorFloat-32 while training on a GPU: faster, with 10 bits of mantissa;
    for the training of all weights."""
    loss_options: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the loss, or by name of a loss the options of that loss."""
    decoder_options: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the decoder, or by name of a decoder the options of that decoder."""
    report_to: str = "none"
    """Where the training is logged: ``none``, ``tensorboard`` or ``wandb``."""

    @property
    def whole(self) -> bool:
        """Whether all weights of a pretrained model are trained."""
        return self.lora_r == 0

    @model_validator(mode="after")
    def _adapters_on_quantised(self) -> Self:
        if self.quant is not None and self.whole:
            raise ConfigError(
                f"quant is {self.quant} and lora_r is 0; quantised weights are trained by adapters only"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide_scratch(self) -> Self:
        if self.hidden % self.heads:
            raise ConfigError(
                f"hidden is {self.hidden}; it must be a multiple of heads ({self.heads})"
            )
        return self


def completed(config: Any, *, loss: str | None, decoder: str | None) -> Any:
    """The configuration with every option of its loss and decoder written out.

    Args:
        config: the configuration of a generative method.
        loss: name of its loss, if any.
        decoder: name of its decoder, if any.

    Raises:
        ConfigError: an unknown option or a value out of range.
    """
    given = own_options(config.loss_options, loss, losses)
    wanted: Mapping[str, Any] = {}
    if loss is not None and loss != ZERO_SHOT:
        wanted = losses.get(loss).complete(given).declared()
    decoding = own_options(config.decoder_options, decoder, decoders)
    if decoder is not None:
        decoding = configure(decoders.get(decoder), decoding).declared()
    return config.replace(loss_options=wanted, decoder_options=decoding)


def recipe_of(config: GenerativeConfig, *, pretrained: bool) -> Recipe:
    """Hyperparameters of the optimizer; a model without pretraining has a learning rate of its own.

    Args:
        config: the method's configuration.
        pretrained: whether the model is pretrained.
    """
    return Recipe(
        epochs=config.epochs,
        lr=config.lr if pretrained else config.scratch_lr,
        batch=config.batch,
        warmup_steps=config.warmup_steps,
        micro_batch=config.micro_batch,
        clip=config.clip,
        patience=config.patience,
        compile=config.compile,
        tf32=config.tf32,
        report_to=config.report_to,
    )
