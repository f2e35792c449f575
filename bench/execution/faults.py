"""What the fault of a cell is called on the board, and where its trace goes."""

from __future__ import annotations

import traceback
from pathlib import Path

from bench.disk.storage import writing
from bench.errors import BenchError

LONGEST = 2000  # of a reason, which may list all that is allowed


def sentence(fault: Exception) -> str:
    """A fault in one line."""
    text = " ".join(str(fault).split())
    name = "" if isinstance(fault, BenchError) else f"{type(fault).__name__}: "
    if "out of memory" in text.lower() or isinstance(fault, MemoryError):
        return f"out of memory: {text[:200]}"
    return (name + text)[:LONGEST] or type(fault).__name__


def log_trace(folder: Path) -> None:
    """Put the trace of the fault at hand at the end of a cell's log."""
    path = folder / "log.txt"
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
