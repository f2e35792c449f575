"""What a cell asks of the machine that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.errors import ConfigError

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


def ranks_of(asked: int | None, usual: int, there: int) -> int:
    """Processes of a cell whose method can share its work.

    Args:
        asked: by the user.
        usual: what suite or scale say.
        there: GPUs that one cell can have; 0 for the CPU.

    Raises:
        ConfigError: fewer than one, or more than there are GPUs.
    """
    if asked is None:
        return max(min(usual, there), 1)
    if asked < 1 or (there and asked > there):
        most = f"from 1 to {there}, the GPUs there are" if there else "1 or more"
        raise ConfigError(
            f"--gpus-per-cell {asked}: it must be {most}; leave it out for the scale's"
        )
    return asked
