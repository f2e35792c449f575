"""What is cheap on which kind of device: one table, read by training, losses and search.

``device_costs.yaml`` beside this file holds a column for a kind of device. ``python -m speed.calibrate``
measures what it can of them on the machine at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

TABLE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class DeviceCosts:
    """A column of the table; each value is described beside the column ``cpu``.

    Attributes:
        packed_rows, packed_tokens: layout of training rows, and tokens of a packed micro-batch.
        compile_layers, fused_optimizer: whether training compiles layers and fuses AdamW's step.
        micro_batch: rows of the first forward pass of a training; 0 for the whole batch.
        gather_cost, block_cost, max_blocks: of a masked loss's matrix products.
        logits_in_loss, logits_in_search: logits held at once.
        pass_tokens, opening_tokens: tokens that weigh up a forward pass; 0 where the next two tell.
        layer_seconds, token_rate: host time to start a layer, and operations a second of a prefill.
        few, padding: shares at which a search copies keys, and pads.
        reads: whether the host waits for a tensor that it reads.
    """

    packed_rows: bool
    packed_tokens: int
    compile_layers: bool
    fused_optimizer: bool
    micro_batch: int
    gather_cost: int
    block_cost: int
    max_blocks: int
    logits_in_loss: int
    logits_in_search: int
    pass_tokens: int
    opening_tokens: int
    layer_seconds: float
    token_rate: float
    few: float
    padding: float
    reads: bool


@cache
def table() -> dict[str, dict[str, Any]]:
    """The whole file: by kind of device, ``source``, ``values`` and perhaps ``measured``."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return found


def costs_of(device: torch.device | str) -> DeviceCosts:
    """The costs on a device; every device but a CPU is taken for a GPU."""
    return _column("cpu" if torch.device(device).type == "cpu" else "cuda")


@cache
def _column(kind: str) -> DeviceCosts:
    return DeviceCosts(**table()[kind]["values"])
