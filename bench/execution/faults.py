"""What the fault of a cell is called on the board, and where its trace goes."""

from __future__ import annotations

import traceback
from pathlib import Path

from bench.disk.storage import writing
from bench.errors import BenchError
from bench.plain_text import printable
from bench.redact import without_secrets

LONGEST = 2000  # of a reason, which may list all that is allowed


def sentence(fault: Exception) -> str:
    """A fault in one line, without tokens that it may quote."""
    text = printable(without_secrets(" ".join(str(fault).split())))
    name = "" if isinstance(fault, BenchError) else f"{type(fault).__name__}: "
    if "out of memory" in text.lower() or isinstance(fault, MemoryError):
        return f"out of memory: {text[:200]}"
    return (name + text)[:LONGEST] or type(fault).__name__


def log_trace(folder: Path) -> None:
    """Put the trace of the fault at hand at the end of a cell's log, without tokens that it may quote."""
    path = folder / "log.txt"
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(trace())


def trace() -> str:
    """The trace of the fault at hand, without tokens that it may quote."""
    return without_secrets(traceback.format_exc())
