"""Small arrays of a micro-batch, on their way to the device in one copy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def moved(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors on a device; the host does not wait for them to arrive.

    Args:
        tensors: of one type, on the CPU.
        device: where they go.
    """
    if device.type == "cpu" or not tensors or tensors[0].device.type != "cpu":
        return [tensor.to(device) for tensor in tensors]
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    if device.type == "cuda":
        flat = flat.pin_memory()
    pieces = flat.to(device, non_blocking=True).split([tensor.numel() for tensor in tensors])
    return [piece.view(old.shape) for piece, old in zip(pieces, tensors, strict=True)]
