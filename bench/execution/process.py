"""How the process of a cell ended, here or in a Slurm job.

A process says how it ended on a channel of our own. Its exit code may be the plugin's, so that no code means
anything but that the process is gone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench.disk.storage import writing
from bench.execution.asking import Alone

Kind = Literal["over", "busy", "died", "lost", "memory", "fault", "storage", "damaged"]


@dataclass(frozen=True)
class End:
    """How the process of a cell ended.

    Attributes:
        kind: ``over`` (the cell has its row), ``busy`` (another runner holds the cell), ``died`` (no row was
            left), ``lost`` (the machine or the cluster took it away), ``memory`` (it ran out of memory that
            others may have been using), ``fault`` (a fault that it could not write down itself),
            ``storage`` (nothing can be written) or ``damaged`` (what it read is not as it was written, and
            was set aside).
        how: the reason, for whoever reads the board.
        hint: what may help.
        alone: what the cell should have for itself when it is tried again.
        said: a line for each damaged file that was set aside.
    """

    kind: Kind
    how: str = ""
    hint: str = ""
    alone: Alone = ""
    said: Sequence[str] = ()


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
    end = End("died", f"{what} ended with {told}")
    return replace(end, hint="probably out of memory", alone="host") if code == -9 else end
