"""What a cell asks of the machine that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Alone = Literal["", "gpu", "host"]


@dataclass(frozen=True)
class Ask:
    """What a cell asks for.

    Attributes:
        ranks: processes that share its work, each with a GPU of its own where there are GPUs.
        gpu_bytes: peak GPU memory of a finished cell of the same kind; None if none was measured, and the
            cell then has its GPU for itself.
        alone: what it must have for itself because it ran out of it: its GPU, or this machine's memory and
            with it all of the machine.
    """

    ranks: int = 1
    gpu_bytes: float | None = None
    alone: Alone = ""


ONE = Ask()
