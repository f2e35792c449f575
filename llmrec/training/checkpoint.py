"""What an interrupted training needs to go on: weights, state of the loss, random generators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.errors import ArtefactError
from llmrec.lm.backbone import Backbone

WEIGHTS, STATE = "weights.safetensors", "batch_loss.json"


def generators(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """State of torch's random generators, from which dropout draws: the CPU's and the GPU's."""
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


def restore_generators(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    """Put the random generators back to the state that ``generators`` returned.

    Args:
        state: what ``generators`` returned.
        device: the device it was read from.
    """
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


def loss_state(folder: Path) -> dict[str, Any]:
    """State of the loss in a checkpoint, as ``state_dict`` returned it."""
    state: dict[str, Any] = json.loads((folder / STATE).read_text())["batch_loss"]
    return state


def save_weights(lm: Backbone, folder: Path) -> None:
    """Write what training changed (adapters, or all weights) as ``weights.safetensors``.

    Args:
        lm: the model.
        folder: an existing folder.
    """
    save_file({k: v.detach().contiguous() for k, v in lm.learnt().items()}, folder / WEIGHTS)


def load_weights(lm: Backbone, folder: Path) -> None:
    """Put the weights that ``save_weights`` wrote back into the model.

    Args:
        lm: a model built like the one that was saved.
        folder: where ``save_weights`` wrote.

    Raises:
        ArtefactError: the file is missing or belongs to another model.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise ArtefactError(f"no {WEIGHTS} in {folder}; run the cell again with --reuse never")
    stored, own = load_file(path, device=str(lm.device)), lm.learnt()
    if stored.keys() != own.keys() or any(stored[k].shape != own[k].shape for k in own):
        raise ArtefactError(f"{path} belongs to another backbone; run with --reuse never")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(stored[name])
