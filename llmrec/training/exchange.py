"""Gradients of one optimizer step, added up over the ranks of a cell."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bench import ranks

CHUNK = (
    2**26
)  # numbers sent at a time, so that a model that learns as a whole needs no second copy of itself


def add_up_gradients(parameters: Iterable[Tensor], loss: Tensor) -> None:
    """Let every rank have the sum of all ranks' gradients and losses, the same bits everywhere.

    A parameter that has no gradient on any rank keeps none, so that the optimizer passes over it as it does
    with one process.

    Args:
        parameters: those that learn, in the same order on all ranks.
        loss: this rank's part of the loss, a scalar; becomes the whole.
    """
    if ranks.size() == 1:
        return
    every = list(parameters)
    touched_P = torch.tensor([p.grad is not None for p in every], dtype=torch.float32)
    ranks.summed(touched_P)
    ranks.summed(loss)
    some = [p for p, n in zip(every, touched_P.tolist(), strict=True) if n]
    for parameter in some:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for chunk in _chunks([p.grad for p in some if p.grad is not None]):
        flat = ranks.summed(torch.cat([gradient.reshape(-1) for gradient in chunk]))
        for gradient, piece in zip(chunk, flat.split([g.numel() for g in chunk]), strict=True):
            gradient.copy_(piece.view_as(gradient))


def rescale_gradients(parameters: Iterable[Tensor], loss: Tensor, factor: float) -> None:
    """Multiply the gradients and the loss of a step by a number that its forward passes gave.

    Args:
        parameters: those that learn; one without a gradient is passed over.
        loss: of the step, a scalar; changed in place.
        factor: the same on every rank; 1 leaves every bit as it is.
    """
    if factor == 1.0:
        return
    loss.mul_(factor)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def _chunks(gradients: list[Tensor]) -> Iterable[list[Tensor]]:
    """Gradients of one type after another, up to ``CHUNK`` numbers together."""
    held: list[Tensor] = []
    for gradient in gradients:
        full = sum(g.numel() for g in held) + gradient.numel() > CHUNK
        if held and (full or gradient.dtype != held[0].dtype):
            yield held
            held = []
        held.append(gradient)
    if held:
        yield held
