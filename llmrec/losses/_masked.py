"""Negative log-likelihood within the valid tokens, with its gradient in closed form.

Per block: one gather of head rows, one product, one masked log-sum-exp, one product back. The gradient
of the hidden states is known as soon as the loss is, so only [R, D] is kept for the backward pass. A
head that learns takes the plain autograd path through the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bench.types import IntArray
from llmrec.lm.device_costs import costs_of
from llmrec.lm.head import Head
from llmrec.losses._valid import Block, Plan, planned, require_valid
from llmrec.losses.base import Answers
from llmrec.trie import Trie

NEVER = float("-inf")


class Masked(NamedTuple):
    """Result of the masked softmax.

    Attributes:
        nll_R: negative log-likelihood, 0 for rows with one valid token.
        kept_R: rows with more than one valid token, as indices, [K].
        read_KC: what ``Softmax.read`` found in the logits of the kept rows; None unless asked for or where
            no row is kept. No gradient.
        fan_out_K: number of valid tokens of the kept rows, on the host.
    """

    nll_R: Tensor
    kept_R: Tensor
    read_KC: Tensor | None
    fan_out_K: IntArray


class Smoothing(NamedTuple):
    """A target that is not the label alone.

    Attributes:
        share: of the target that goes to other tokens than the label.
        weight_E: how it is spread, by edge of the trie; sums to 1 over the edges of a node.
    """

    share: float
    weight_E: Tensor


class Softmax(NamedTuple):
    """How logits become the loss.

    Attributes:
        tau: temperature; the softmax is over ``f / tau``.
        bonus_R: added to the arguments of each row's negatives.
        read: called with the logits of a block's rows [R, U] and the block; returns numbers a row [R, C].
        smoothing: None for the label as the whole target.
    """

    tau: float = 1.0
    bonus_R: Tensor | None = None
    read: Callable[[Tensor, Block], Tensor] | None = None
    smoothing: Smoothing | None = None


def masked_nll(
    hidden_RD: Tensor, head: Head, answers: Answers, trie: Trie, how: Softmax | None = None
) -> Masked:
    """Negative log-likelihood of each label among its valid tokens.

    Args:
        hidden_RD: states that predict the labels.
        head: output head; ``head.trainable`` decides whether it gets a gradient.
        answers: labels and trie nodes, on the device of ``hidden_RD``.
        trie: the valid tokens.
        how: temperature, bonus per row, smoothing, and what is to be read off the logits.

    Raises:
        ConfigError: a label is not among its valid tokens.
    """
    how = how or Softmax()
    plan = answers.plan or plan_of(answers, trie)
    kept_R = plan.kept_R
    dtype = head.precision(hidden_RD)
    nothing_R = hidden_RD.new_zeros(len(answers), dtype=dtype)
    if len(kept_R) == 0:
        # the empty sum keeps a graph, so that backward also works for a batch without a choice
        return Masked(nothing_R + hidden_RD[:0].sum(), kept_R, None, plan.fan_out_K)
    weight_E = None if how.smoothing is None else how.smoothing.weight_E.to(kept_R.device, dtype)
    blocks = plan.blocks(weight_E)
    if how.bonus_R is not None:
        how = how._replace(bonus_R=how.bonus_R[kept_R])
    hidden_KD = hidden_RD[kept_R]
    if head.trainable:
        nll_K, read_KC = _generic(hidden_KD, head, blocks, how)
    else:
        nll_K, read_KC = _ClosedForm.apply(hidden_KD, head, blocks, how)
    nll_R = nothing_R.index_copy(0, kept_R, nll_K.to(dtype))
    return Masked(nll_R, kept_R, read_KC if how.read else None, plan.fan_out_K)


def plan_of(answers: Answers, trie: Trie) -> Plan:
    """The plan of rows that came without one; the host reads them and checks them.

    Args:
        answers: labels and trie nodes.
        trie: the valid tokens.

    Raises:
        ConfigError: a label is not among its valid tokens.
    """
    device = answers.node_R.device
    columns = (answers.token_R, answers.node_R, answers.row_R)
    token_R, node_R, row_R = (column.cpu().numpy() for column in columns)
    # before the rows are summed, since an infinite sum does not tell which label was invalid
    require_valid(trie, token_R, node_R, row_R)
    return planned(trie, token_R, node_R, costs_of(device)).to(device)


class _ClosedForm(torch.autograd.Function):
    """Loss and gradient together, block after block; the head is frozen."""

    @staticmethod
    def forward(
        ctx: Any, hidden_KD: Tensor, head: Head, blocks: list[Block], how: Softmax
    ) -> tuple[Tensor, Tensor]:
        dtype = head.precision(hidden_KD)
        nll_K = hidden_KD.new_empty(len(hidden_KD), dtype=dtype)
        read = []
        wanted = ctx.needs_input_grad[0]
        gradient_KD = hidden_KD.new_empty(hidden_KD.shape if wanted else (0, 0), dtype=dtype)
        for block in blocks:
            row_R = block.row_R
            nll_K[row_R], gradient_RD, read_RC = _block(hidden_KD, head, block, how, wanted)
            if gradient_RD is not None:
                gradient_KD[row_R] = gradient_RD
            if read_RC is not None:
                read.append(read_RC)
        ctx.save_for_backward(gradient_KD)
        ctx.dtype = hidden_KD.dtype
        read_KC = torch.cat(read)[_order(blocks)] if read else nll_K.new_zeros(0)
        ctx.mark_non_differentiable(read_KC)
        return nll_K, read_KC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, back_K: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient_KD,) = ctx.saved_tensors
        return (back_K[:, None] * gradient_KD).to(ctx.dtype), None, None, None


def _block(
    hidden_KD: Tensor, head: Head, block: Block, how: Softmax, wanted: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Loss of a block's rows and, where wanted, the gradient of their states and what is read of them."""
    rows = head.rows(block.token_U)
    logits_RU = rows.logits(hidden_KD[block.row_R])
    read_RC = how.read(logits_RU, block) if how.read else None
    scaled_RU = _scaled(logits_RU, block, how)
    lse_R = scaled_RU.logsumexp(1)
    nll_R = lse_R - _target(scaled_RU, block, how)
    if not wanted:
        return nll_R, None, read_RC
    share_RU = scaled_RU.sub_(lse_R[:, None]).exp_()
    at_label = 1.0
    if how.smoothing is not None:
        at_label -= how.smoothing.share
        share_RU.sub_(how.smoothing.share * block.weight_RU)
    share_RU.scatter_add_(1, block.label_R[:, None], torch.full_like(lse_R, -at_label)[:, None])
    return nll_R, rows.pull(share_RU, logits_RU) / how.tau, read_RC


def _generic(
    hidden_KD: Tensor, head: Head, blocks: list[Block], how: Softmax
) -> tuple[Tensor, Tensor]:
    """The same under autograd, so that the touched rows of the head learn too."""
    nll, read = [], []
    for block in blocks:
        logits_RU = head.rows(block.token_U).logits(hidden_KD[block.row_R])
        scaled_RU = _scaled(logits_RU, block, how)
        nll.append(scaled_RU.logsumexp(1) - _target(scaled_RU, block, how))
        if how.read:
            read.append(how.read(logits_RU.detach(), block))
    order = _order(blocks)
    read_KC = torch.cat(read)[order] if read else hidden_KD.new_zeros(0)
    return torch.cat(nll)[order], read_KC


def _order(blocks: list[Block]) -> Tensor:
    """Where each row stands in the blocks laid end to end."""
    return torch.cat([block.row_R for block in blocks]).argsort()


def _target(scaled_RU: Tensor, block: Block, how: Softmax) -> Tensor:
    """The mean of the softmax's arguments under the target: that of the label unless it is smoothed."""
    label_R = scaled_RU.gather(1, block.label_R[:, None])[:, 0]
    if how.smoothing is None:
        return label_R
    weight_RU, share = block.weight_RU, how.smoothing.share
    mean_R = (weight_RU * scaled_RU.masked_fill(weight_RU == 0, 0.0)).sum(1)
    return (1 - share) * label_R + share * mean_R


def _scaled(logits_RU: Tensor, block: Block, how: Softmax) -> Tensor:
    scaled_RU = logits_RU / how.tau
    if how.bonus_R is not None:
        bonus_R1 = how.bonus_R[block.row_R, None].to(scaled_RU.dtype)
        scaled_RU = (scaled_RU + bonus_R1).scatter_add(1, block.label_R[:, None], -bonus_R1)
    invalid_RU = block.invalid_RU
    return scaled_RU if invalid_RU is None else scaled_RU.masked_fill_(invalid_RU, NEVER)


def moments(logits_RU: Tensor, block: Block) -> Tensor:
    """Label logit above the mean valid logit, population variance of the valid logits, their mean, [R, 3].

    Args:
        logits_RU: of the union of the valid tokens of these rows.
        block: says which are valid in each.
    """
    label_R1 = logits_RU.gather(1, block.label_R[:, None])
    invalid_RU = block.invalid_RU
    if invalid_RU is None:
        variance_R1, mean_R1 = torch.var_mean(logits_RU, 1, correction=0, keepdim=True)
        return torch.cat([label_R1 - mean_R1, variance_R1, mean_R1], 1)
    size_R1 = (~invalid_RU).sum(1, keepdim=True)
    mean_R1 = logits_RU.masked_fill(invalid_RU, 0.0).sum(1, keepdim=True) / size_R1
    spread_RU = (logits_RU - mean_R1).masked_fill(invalid_RU, 0.0)
    variance_R1 = spread_RU.square().sum(1, keepdim=True) / size_R1
    return torch.cat([label_R1 - mean_R1, variance_R1, mean_R1], 1)
