"""What the process of a cell does, here or in a Slurm job."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace

from bench.cell import Cell
from bench.disk import sealed
from bench.disk.storage import storage_fault
from bench.errors import DamagedError
from bench.execution.faults import Starved
from bench.execution.process import End
from bench.execution.runner import run_cell
from bench.execution.team import SOLO, Team
from bench.execution.work import Surroundings


def run_claimed(cell: Cell, where: Surroundings, team: Team = SOLO) -> End:
    """Run a cell in this process, unless another process holds it.

    Args:
        cell: what is run.
        where: store, data, device and inputs.
        team: the cell's other ranks; they are ended with it.
    """
    with _damage() as said:
        try:
            return replace(_run_claimed(cell, where, team), said=said)
        except OSError as fault:
            if disk := storage_fault(fault):
                return End("storage", str(disk), said=said)
            raise
        finally:
            team.end()


def _run_claimed(cell: Cell, where: Surroundings, team: Team) -> End:
    with where.store.claim(cell.key) as held:
        if not held:
            return End("busy", "another runner held the cell")
        try:
            run_cell(cell, where, team)
        except Starved as fault:
            return End("memory", str(fault), alone=fault.memory)
        except DamagedError as damage:
            return _heal(damage, where)
    return End("over")


def _heal(damage: DamagedError, where: Surroundings) -> End:
    """Set a damaged artefact aside, unless another runner is making it again already."""
    folders = (model.parent for model in where.needs.values())
    need = next((folder for folder in folders if damage.path.is_relative_to(folder)), None)
    with where.store.claim(need.name) if need else contextlib.nullcontext(True) as free:
        if not free:
            return End("busy", "another runner makes again what it needs")
        sealed.set_aside(damage)
    return End("damaged", str(damage))


@contextlib.contextmanager
def _damage() -> Iterator[list[str]]:
    """Collect the lines of what is set aside in the body."""
    said: list[str] = []
    listener = logging.Handler()

    def emit(record: logging.LogRecord) -> None:
        said.append(record.getMessage())
        print(said[-1], file=sys.stderr, flush=True)  # into the cell's log

    listener.emit = emit  # type: ignore[method-assign]
    sealed.log.addHandler(listener)
    try:
        yield said
    finally:
        sealed.log.removeHandler(listener)
