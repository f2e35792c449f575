"""One file with the state of a training, sealed: what is not as it was written is set aside and not used."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench.disk.sealed import owner, read_or_set_aside, write_sealed


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        path: the file.
        state: tensors, numbers, texts and containers of them.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_sealed(path, buffer.getvalue(), of=owner(path))


def load_state(path: Path, device: str | torch.device) -> dict[str, Any] | None:
    """The state that ``save_state`` wrote; None if there is none, and none that can be used.

    Args:
        path: the file.
        device: where its tensors go.
    """
    content = read_or_set_aside(path, of=owner(path))
    if content is None:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return state
