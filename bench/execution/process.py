"""What the process of a cell does, here or in a Slurm job, and how it ended.

A process says how it ended on a channel of our own. Its exit code may be the plugin's, so that no code means
anything but that the process is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.cell import Cell
from bench.execution.runner import Surroundings, run_cell
from bench.results.storage import storage_fault

Kind = Literal["over", "busy", "died", "lost", "storage"]


@dataclass(frozen=True)
class End:
    """How the process of a cell ended.

    Attributes:
        kind: ``over`` (the cell has its row), ``busy`` (another runner holds the cell), ``died`` (no row was
            left), ``lost`` (the machine or the cluster took it away) or ``storage`` (nothing can be written).
        how: the reason, for whoever reads the board.
        hint: what may help.
    """

    kind: Kind
    how: str = ""
    hint: str = ""


def run_claimed(cell: Cell, where: Surroundings) -> End:
    """Run a cell in this process, unless another process holds it."""
    try:
        with where.store.claim(cell.key) as held:
            if not held:
                return End("busy", "another runner held the cell")
            run_cell(cell, where)
    except OSError as fault:
        if disk := storage_fault(fault):
            return End("storage", str(disk))
        raise
    return End("over")


def died(what: str, code: int) -> End:
    """The end of a process that left no word.

    Args:
        what: which process.
        code: its exit code; negative for a signal.
    """
    told = f"signal {-code}" if code < 0 else f"exit code {code}"
    return End("died", f"{what} ended with {told}", "probably out of memory" if code == -9 else "")
