"""Language-modelling loss: softmax over the whole vocabulary (MSL, Eq. 1), answer tokens only.

The partition function needs every token, so rows go through the head in chunks: never more than one
chunk x V of logits is alive, in the forward or in the backward pass. R rows, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from bench.config import Config
from bench.registry import losses
from llmrec.lm.device_costs import costs_of
from llmrec.lm.head import Head
from llmrec.losses.base import GRID, Answers, Loss, TokenConfig


def lml(
    hidden_RD: Tensor, head: Head, token_R: Tensor, *, tau: float = 1.0, chunk: int | None = None
) -> Tensor:
    """``logsumexp_z f(z) / tau - f(y) / tau`` of each row, in fp32, [R].

    Args:
        hidden_RD: states that predict the labels.
        head: output head. A frozen one gets the closed-form gradient of the hidden states; one that
            learns is recomputed chunk by chunk in the backward pass.
        token_R: labels.
        tau: temperature; 1 is the plain loss.
        chunk: rows at a time; by default as many as the device's table lets, 64 MiB of logits on a CPU.

    The authors' code computes log(sum(exp(f / tau))) directly, which overflows beyond 88; this agrees
    with it wherever that is finite.
    """
    chunk = chunk or max(1, costs_of(hidden_RD.device).logits_in_loss // head.vocabulary)
    if not head.trainable:
        return _ClosedForm.apply(hidden_RD, head, token_R, tau, chunk)
    parts = zip(hidden_RD.split(chunk), token_R.split(chunk), strict=True)
    return torch.cat(
        [
            checkpoint(_rows, hidden, head, token, tau, use_reentrant=False)
            for hidden, token in parts
        ]
    )


def _rows(hidden_RD: Tensor, head: Head, token_R: Tensor, tau: float) -> Tensor:
    scaled_RV = head.logits(hidden_RD) / tau
    return scaled_RV.logsumexp(1) - scaled_RV.gather(1, token_R[:, None])[:, 0]


class _ClosedForm(torch.autograd.Function):
    """Loss and gradient together, chunk after chunk; the head is frozen."""

    @staticmethod
    def forward(
        ctx: Any, hidden_RD: Tensor, head: Head, token_R: Tensor, tau: float, chunk: int
    ) -> Tensor:
        dtype = head.precision(hidden_RD)
        nll_R = hidden_RD.new_empty(len(hidden_RD), dtype=dtype)
        wanted = ctx.needs_input_grad[0]
        gradient_RD = hidden_RD.new_empty(hidden_RD.shape if wanted else (0, 0), dtype=dtype)
        for start in range(0, len(hidden_RD), chunk):
            rows = slice(start, start + chunk)
            nll_R[rows], gradient_CD = _chunk(hidden_RD[rows], head, token_R[rows], tau, wanted)
            if gradient_CD is not None:
                gradient_RD[rows] = gradient_CD
        ctx.save_for_backward(gradient_RD)
        ctx.dtype = hidden_RD.dtype
        return nll_R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, back_R: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient_RD,) = ctx.saved_tensors
        return (back_R[:, None] * gradient_RD).to(ctx.dtype), None, None, None, None


def _chunk(
    hidden_CD: Tensor, head: Head, token_C: Tensor, tau: float, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Loss and, if wanted, gradient; in place, because a second chunk x V would double the memory."""
    token_C1 = token_C[:, None]
    logits_CV = head.logits(hidden_CD)
    scaled_CV = logits_CV.clone() if head.softcap is not None else logits_CV
    if tau != 1.0:
        scaled_CV /= tau
    label_C1 = scaled_CV.gather(1, token_C1)
    peak_C1 = scaled_CV.amax(1, keepdim=True)
    share_CV = scaled_CV.sub_(peak_C1).exp_()
    total_C1 = share_CV.sum(1, keepdim=True)
    nll_C = (total_C1.log() + peak_C1 - label_C1)[:, 0]
    if not wanted:
        return nll_C, None
    share_CV /= total_C1
    share_CV.scatter_add_(1, token_C1, torch.full_like(label_C1, -1.0))
    return nll_C, head.pull(share_CV, logits_CV) / tau


class LMLTauConfig(TokenConfig):
    """Temperature of the softmax over the vocabulary; the paper's grid is unpublished."""

    tau: PositiveFloat = 2.0
    """The temperature."""
    leading_tau: bool = False
    """Multiply the loss by tau, as MSL's Eq. 9 does; the authors' LML script does not."""


@losses.register("lml")
class LML(Loss):
    """Softmax over the whole vocabulary, mean over all answer tokens (MSL, Eq. 1)."""

    Config: ClassVar[type[Config]] = TokenConfig

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """See ``lml``."""
        return lml(hidden_RD, head, answers.token_R)


@losses.register("lml_tau")
class LMLTau(Loss):
    """LML with a tuned temperature (MSL, Table 6)."""

    Config = LMLTauConfig
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {"tau": (0.5, *GRID)}

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """See ``lml``."""
        factor = self.config.tau if self.config.leading_tau else 1.0
        return factor * lml(hidden_RD, head, answers.token_R, tau=self.config.tau)
