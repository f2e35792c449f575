"""What the process of a cell does, here or in a Slurm job."""

from __future__ import annotations

from bench.cell import Cell
from bench.execution.faults import Starved
from bench.execution.process import End
from bench.execution.runner import run_cell
from bench.execution.team import SOLO, Team
from bench.execution.work import Surroundings
from bench.results.storage import storage_fault


def run_claimed(cell: Cell, where: Surroundings, team: Team = SOLO) -> End:
    """Run a cell in this process, unless another process holds it.

    Args:
        cell: what is run.
        where: store, data, device and inputs.
        team: the cell's other ranks; they are ended with it.
    """
    try:
        with where.store.claim(cell.key) as held:
            if not held:
                return End("busy", "another runner held the cell")
            run_cell(cell, where, team)
    except Starved as fault:
        return End("memory", str(fault), alone=fault.memory)
    except OSError as fault:
        if disk := storage_fault(fault):
            return End("storage", str(disk))
        raise
    finally:
        team.end()
    return End("over")
