"""What the process of a cell does, here or in a Slurm job, and how it ended.

A process says how it ended on a channel of our own. Its exit code may be the plugin's, so that no code means
anything but that the process is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench.cell import Cell
from bench.disk import sealed
from bench.disk.storage import storage_fault, writing
from bench.errors import DamagedError
from bench.execution.runner import Surroundings, run_cell

Kind = Literal["over", "busy", "died", "lost", "storage", "damaged"]


@dataclass(frozen=True)
class End:
    """How the process of a cell ended.

    Attributes:
        kind: ``over`` (the cell has its row), ``busy`` (another runner holds the cell), ``died`` (no row was
            left), ``lost`` (the machine or the cluster took it away), ``storage`` (nothing can be written)
            or ``damaged`` (what it read is not as it was written, and was set aside).
        how: the reason, for whoever reads the board.
        hint: what may help.
        said: a line for each damaged file that was set aside.
    """

    kind: Kind
    how: str = ""
    hint: str = ""
    said: Sequence[str] = ()


def run_claimed(cell: Cell, where: Surroundings) -> End:
    """Run a cell in this process, unless another process holds it."""
    with _damage() as said:
        try:
            return replace(_run_claimed(cell, where), said=said)
        except OSError as fault:
            if disk := storage_fault(fault):
                return End("storage", str(disk), said=said)
            raise


def _run_claimed(cell: Cell, where: Surroundings) -> End:
    with where.store.claim(cell.key) as held:
        if not held:
            return End("busy", "another runner held the cell")
        try:
            run_cell(cell, where)
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


def log_to(path: Path) -> None:
    """Send what this process prints to a file, behind what is there.

    Raises:
        StorageError: it cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)


def died(what: str, code: int) -> End:
    """The end of a process that left no word.

    Args:
        what: which process.
        code: its exit code; negative for a signal.
    """
    told = f"signal {-code}" if code < 0 else f"exit code {code}"
    return End("died", f"{what} ended with {told}", "probably out of memory" if code == -9 else "")
