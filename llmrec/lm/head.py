"""The output layer (head) of a causal language model: hidden states in, fp32 logits out.

Losses and decoders need the head for answer positions and valid tokens only, so nobody here calls the
model's own forward, which would compute [positions x V]. What some architectures do to their logits
after the matrix product (a multiplier, a soft cap) belongs to the head and is kept.
R rows, D hidden width, V vocabulary, U selected tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bench.errors import ConfigError

SOFTCAPS = ("final_logit_softcapping", "output_logit_soft_cap", "logits_soft_cap")
MULTIPLIERS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
MULTIPLIES_BY_LOGITS_SCALING = ("hyperclovax",)  # the Granite family divides by it
MIXED_PRODUCT = "out_dtype" in (torch.mm.__doc__ or "")  # torch 2.8: 16-bit in, fp32 out, on CUDA


@dataclass(frozen=True, eq=False)
class Head:
    """``softcap(scale * (hidden @ weight.T + bias))``.

    Attributes:
        weight_VD: output embedding, tied or not.
        bias_V: or None.
        scale: multiplier of the product (Cohere's logit_scale, the inverse of Granite's logits_scaling).
        softcap: Gemma's c in ``c * tanh(x / c)``, or None.
    """

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: Any) -> Head:
        """Read the head of a Hugging Face causal language model, bare or wrapped by peft.

        Raises:
            ConfigError: the head is quantised or carries an adapter, so that its rows cannot be read.
        """
        layer = model.get_output_embeddings()
        # peft trains a copy of a whole layer beside it, and the copy is what the model uses
        copies = getattr(layer, "modules_to_save", None)
        if copies is not None and len(copies):
            active = layer.active_adapter
            layer = copies[active if isinstance(active, str) else active[0]]
        if hasattr(layer, "lora_A"):
            raise ConfigError(
                "the output head carries a LoRA adapter, so its rows cannot be gathered; take "
                "lm_head out of the adapter's target modules"
            )
        if not layer.weight.is_floating_point():
            raise ConfigError(
                f"the output head is quantised to {layer.weight.dtype}; leave lm_head out of the "
                "quantisation (llm_int8_skip_modules)"
            )
        config = model.config.get_text_config()
        cap = next((c for key in SOFTCAPS if (c := getattr(config, key, None))), None)
        return cls(layer.weight, getattr(layer, "bias", None), _scale(config), cap)

    @property
    def vocabulary(self) -> int:
        """V, rows of the weight (padding rows of the checkpoint included)."""
        return self.weight_VD.shape[0]

    @property
    def trainable(self) -> bool:
        """Whether a loss has to send a gradient into the head itself."""
        bias = self.bias_V is not None and self.bias_V.requires_grad
        return torch.is_grad_enabled() and (self.weight_VD.requires_grad or bias)

    def precision(self, hidden: Tensor) -> torch.dtype:
        """Type of the logits of these hidden states: fp32, or fp64 if the states or the weight are."""
        both = torch.promote_types(hidden.dtype, self.weight_VD.dtype)
        return torch.promote_types(both, torch.float32)

    def rows(self, token_U: Tensor) -> Head:
        """A head of the given tokens only, in fp32 (fp64 stays); gradients reach their rows of the weight."""
        weight = self.weight_VD.index_select(0, token_U)
        bias = None if self.bias_V is None else _full(self.bias_V.index_select(0, token_U))
        return replace(self, weight_VD=_full(weight), bias_V=bias)

    def logits(self, hidden_RD: Tensor) -> Tensor:
        """Logits of all tokens of this head, fp32 (fp64 if head or hidden is), [R, V].

        Both factors keep their precision, whatever autocast says, and sums are taken in fp32: rounded to 16
        bits a logit of 30 is off by up to 0.1, and one in ten pairs of neighbouring best tokens would tie.
        """
        with torch.autocast(hidden_RD.device.type, enabled=False):
            return self._shape(self._product(hidden_RD))

    def _product(self, hidden_RD: Tensor) -> Tensor:
        weight, bias = self.weight_VD, self.bias_V
        if mixes(weight) and hidden_RD.dtype != torch.float64:
            # also where no gradient is wanted: a policy and its reference must round alike
            product = MixedProduct.apply(hidden_RD.to(weight.dtype), weight)
            return product if bias is None else product + bias.float()
        dtype = self.precision(hidden_RD)
        bias = None if bias is None else bias.to(dtype)
        return functional.linear(hidden_RD.to(dtype), weight.to(dtype), bias)

    def _shape(self, product_RV: Tensor) -> Tensor:
        if self.scale != 1.0:
            product_RV = product_RV * self.scale
        if self.softcap is not None:
            product_RV = self.softcap * torch.tanh(product_RV / self.softcap)
        return product_RV

    def pull(self, gradient_RV: Tensor, logits_RV: Tensor) -> Tensor:
        """Gradient of the hidden states from that of the logits, for closed-form losses, [R, D].

        Args:
            gradient_RV: d loss / d logits; overwritten.
            logits_RV: what ``logits`` gave; read only where there is a soft cap.
        """
        # d tanh(x) / dx = 1 - tanh(x)^2, and the logits are softcap * tanh(x)
        if self.softcap is not None:
            gradient_RV *= 1 - (logits_RV / self.softcap).square()
        if self.scale != 1.0:
            gradient_RV *= self.scale
        weight = self.weight_VD
        with torch.autocast(gradient_RV.device.type, enabled=False):
            if gradient_RV.dtype == torch.float64:
                return gradient_RV @ weight.double()
            return (gradient_RV.to(weight.dtype) @ weight).float()


def mixes(weight: Tensor) -> bool:
    """Whether torch has a matrix product of 16-bit factors with an fp32 result for this weight."""
    return weight.is_cuda and weight.dtype.itemsize == 2 and MIXED_PRODUCT


def mixed(hidden_RD: Tensor, weight_VD: Tensor) -> Tensor:
    """``hidden @ weight.T`` of 16-bit numbers, accumulated and returned in fp32, [R, V]; CUDA only.

    Args:
        hidden_RD: hidden states, in the dtype of the weight.
        weight_VD: output embedding.
    """
    return torch.mm(hidden_RD, weight_VD.T, out_dtype=torch.float32)


class MixedProduct(torch.autograd.Function):
    """``mixed`` with the gradient of ``functional.linear``, which torch does not give it."""

    @staticmethod
    def forward(ctx: Any, hidden_RD: Tensor, weight_VD: Tensor) -> Tensor:
        """The product, fp32 [R, V]."""
        ctx.save_for_backward(hidden_RD, weight_VD)
        return mixed(hidden_RD, weight_VD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, back_RV: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of both sides, in their own precision."""
        hidden_RD, weight_VD = ctx.saved_tensors
        back_RV = back_RV.to(weight_VD.dtype)
        hidden, weight = ctx.needs_input_grad
        return back_RV @ weight_VD if hidden else None, back_RV.T @ hidden_RD if weight else None


def _scale(config: Any) -> float:
    for key in MULTIPLIERS:
        if (value := getattr(config, key, None)) is not None:
            return float(value)
    if getattr(config, "scale_decoder_outputs", False):  # T5, where embedding and head are tied
        return float(config.d_model) ** -0.5
    value = getattr(config, "logits_scaling", None)
    if value is None:
        return 1.0
    multiplies = config.model_type.startswith(MULTIPLIES_BY_LOGITS_SCALING)
    return float(value) if multiplies else 1.0 / float(value)


def _full(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
