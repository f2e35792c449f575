"""What an interrupted training needs to go on: weights, state of the loss, random generators.

A checkpoint is a folder that is sealed once it is whole. One without a seal was being written when its
process ended; one that differs from its seal was damaged since. Neither is used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.disk.manifest import check_folder, is_sealed, seal_folder
from bench.disk.sealed import set_aside
from bench.errors import ArtefactError, DamagedError
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


def folder_of(folder: Path, step: int) -> Path:
    """The checkpoint of an optimizer step, as transformers calls it.

    Args:
        folder: of all checkpoints.
        step: its number, from 1.
    """
    return folder / f"checkpoint-{step}"


def keep_only(folder: Path, steps: Iterable[int | None]) -> None:
    """Seal the checkpoints of some steps that are not sealed yet, then remove all others.

    Args:
        folder: of all checkpoints.
        steps: those wanted: the newest and the best.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    wanted = {folder_of(folder, step) for step in steps if step is not None}
    for checkpoint in wanted:
        if checkpoint.is_dir() and not is_sealed(checkpoint):
            seal_folder(checkpoint)
    for checkpoint in folder.glob("checkpoint-*"):
        if checkpoint not in wanted and checkpoint.name.rpartition("-")[2].isdigit():
            shutil.rmtree(checkpoint, ignore_errors=True)


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole and whose best checkpoint is; None if there is none.

    Damaged ones are set aside.
    """
    names = (path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*"))
    for step in sorted((int(name) for name in names if name.isdigit()), reverse=True):
        checkpoint = folder_of(folder, step)
        if not is_sealed(checkpoint) or not _is_whole(checkpoint):
            continue
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        best = folder_of(folder, state.get("best_global_step") or step)
        if best == checkpoint or (is_sealed(best) and _is_whole(best)):
            return str(checkpoint)
    return None


def _is_whole(checkpoint: Path) -> bool:
    """Whether a sealed checkpoint is as it was written; it is set aside if not."""
    try:
        check_folder(checkpoint)
    except DamagedError as damage:
        set_aside(damage)
        return False
    return True
