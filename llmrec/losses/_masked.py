"""Negative log-likelihood within the valid tokens, with its gradient in closed form.

Per block: one gather of head rows, one product, one masked log-sum-exp, one product back. The gradient
of the hidden states is known as soon as the loss is, so only [R, D] is kept for the backward pass. A
head that learns takes the plain autograd path through the same numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmrec.lm.head import Head
from llmrec.losses._valid import Block, fan_out, plan, require_valid
from llmrec.losses.base import Answers
from llmrec.trie import Trie

NEVER = float("-inf")


class Masked(NamedTuple):
    """Result of the masked softmax.

    Attributes:
        nll_R: negative log-likelihood, 0 for rows with one valid token.
        kept_R: rows with more than one valid token, as indices, [K].
        moments_K3: label logit above the mean valid logit, population variance of the valid logits and
            their mean, for the kept rows; None unless asked for. No gradient.
    """

    nll_R: Tensor
    kept_R: Tensor
    moments_K3: Tensor | None


class Softmax(NamedTuple):
    """How logits become the softmax's arguments: ``f / tau``, plus ``bonus`` for negatives."""

    tau: float = 1.0
    bonus_R: Tensor | None = None
    moments: bool = False


def masked_nll(
    hidden_RD: Tensor, head: Head, answers: Answers, trie: Trie, how: Softmax | None = None
) -> Masked:
    """Negative log-likelihood of each label among its valid tokens.

    Args:
        hidden_RD: states that predict the labels.
        head: output head; ``head.trainable`` decides whether it gets a gradient.
        answers: labels and trie nodes, on the device of ``hidden_RD``.
        trie: the valid tokens.
        how: temperature, bonus per row and whether moments are wanted.

    Raises:
        ConfigError: a label is not among its valid tokens.
    """
    how = how or Softmax()
    # before the rows are summed, since an infinite sum does not tell which label was invalid
    require_valid(trie, answers.token_R, answers.node_R, answers.row_R)
    kept_R = torch.nonzero(fan_out(trie, answers.node_R) > 1).flatten()
    dtype = head.precision(hidden_RD)
    nothing_R = hidden_RD.new_zeros(len(answers), dtype=dtype)
    if len(kept_R) == 0:
        empty = nothing_R.new_zeros(0, 3) if how.moments else None
        # the empty sum keeps a graph, so that backward also works for a batch without a choice
        return Masked(nothing_R + hidden_RD[:0].sum(), kept_R, empty)
    blocks = plan(trie, answers.token_R[kept_R], answers.node_R[kept_R])
    if how.bonus_R is not None:
        how = how._replace(bonus_R=how.bonus_R[kept_R])
    hidden_KD = hidden_RD[kept_R]
    if head.trainable:
        nll_K, moments_K3 = _generic(hidden_KD, head, blocks, how)
    else:
        nll_K, moments_K3 = _ClosedForm.apply(hidden_KD, head, blocks, how)
    nll_R = nothing_R.index_copy(0, kept_R, nll_K.to(dtype))
    return Masked(nll_R, kept_R, moments_K3 if how.moments else None)


class _ClosedForm(torch.autograd.Function):
    """Loss and gradient together, block after block; the head is frozen."""

    @staticmethod
    def forward(
        ctx: Any, hidden_KD: Tensor, head: Head, blocks: list[Block], how: Softmax
    ) -> tuple[Tensor, Tensor]:
        dtype = head.precision(hidden_KD)
        nll_K = hidden_KD.new_empty(len(hidden_KD), dtype=dtype)
        moments_K3 = nll_K.new_empty(len(nll_K) if how.moments else 0, 3)
        wanted = ctx.needs_input_grad[0]
        gradient_KD = hidden_KD.new_empty(hidden_KD.shape if wanted else (0, 0), dtype=dtype)
        for block in blocks:
            row_R = block.row_R
            nll_K[row_R], gradient_RD, moments_R3 = _block(hidden_KD, head, block, how, wanted)
            if gradient_RD is not None:
                gradient_KD[row_R] = gradient_RD
            if moments_R3 is not None:
                moments_K3[row_R] = moments_R3
        ctx.save_for_backward(gradient_KD)
        ctx.dtype = hidden_KD.dtype
        ctx.mark_non_differentiable(moments_K3)
        return nll_K, moments_K3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, back_K: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient_KD,) = ctx.saved_tensors
        return (back_K[:, None] * gradient_KD).to(ctx.dtype), None, None, None


def _block(
    hidden_KD: Tensor, head: Head, block: Block, how: Softmax, wanted: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Loss of a block's rows and, where wanted, the gradient of their states and their moments."""
    rows = head.rows(block.token_U)
    logits_RU = rows.logits(hidden_KD[block.row_R])
    moments_R3 = _moments(logits_RU, block) if how.moments else None
    scaled_RU = _scaled(logits_RU, block, how)
    lse_R = scaled_RU.logsumexp(1)
    label_R1 = block.label_R[:, None]
    nll_R = lse_R - scaled_RU.gather(1, label_R1)[:, 0]
    if not wanted:
        return nll_R, None, moments_R3
    share_RU = scaled_RU.sub_(lse_R[:, None]).exp_()
    share_RU.scatter_add_(1, label_R1, torch.full_like(lse_R, -1.0)[:, None])
    return nll_R, rows.pull(share_RU, logits_RU) / how.tau, moments_R3


def _generic(
    hidden_KD: Tensor, head: Head, blocks: list[Block], how: Softmax
) -> tuple[Tensor, Tensor]:
    """The same under autograd, so that the touched rows of the head learn too."""
    nll, moments = [], []
    for block in blocks:
        logits_RU = head.rows(block.token_U).logits(hidden_KD[block.row_R])
        scaled_RU = _scaled(logits_RU, block, how)
        label_R = scaled_RU.gather(1, block.label_R[:, None])[:, 0]
        nll.append(scaled_RU.logsumexp(1) - label_R)
        if how.moments:
            moments.append(_moments(logits_RU.detach(), block))
    order = torch.cat([block.row_R for block in blocks]).argsort()
    moments_K3 = torch.cat(moments)[order] if moments else hidden_KD.new_zeros(0, 3)
    return torch.cat(nll)[order], moments_K3


def _scaled(logits_RU: Tensor, block: Block, how: Softmax) -> Tensor:
    scaled_RU = logits_RU / how.tau
    if how.bonus_R is not None:
        bonus_R1 = how.bonus_R[block.row_R, None].to(scaled_RU.dtype)
        scaled_RU = (scaled_RU + bonus_R1).scatter_add(1, block.label_R[:, None], -bonus_R1)
    if block.invalid_GU is None or block.group_R is None:
        return scaled_RU
    return scaled_RU.masked_fill_(block.invalid_GU[block.group_R], NEVER)


def _moments(logits_RU: Tensor, block: Block) -> Tensor:
    label_R1 = logits_RU.gather(1, block.label_R[:, None])
    if block.invalid_GU is None or block.group_R is None:
        variance_R1, mean_R1 = torch.var_mean(logits_RU, 1, correction=0, keepdim=True)
        return torch.cat([label_R1 - mean_R1, variance_R1, mean_R1], 1)
    invalid_RU = block.invalid_GU[block.group_R]
    size_R1 = (~invalid_RU).sum(1, keepdim=True)
    mean_R1 = logits_RU.masked_fill(invalid_RU, 0.0).sum(1, keepdim=True) / size_R1
    spread_RU = (logits_RU - mean_R1).masked_fill(invalid_RU, 0.0)
    variance_R1 = spread_RU.square().sum(1, keepdim=True) / size_R1
    return torch.cat([label_R1 - mean_R1, variance_R1, mean_R1], 1)
