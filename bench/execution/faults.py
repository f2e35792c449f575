"""What the fault of a cell is called on the board, which memory ran out, and where its trace goes."""

from __future__ import annotations

import traceback
from pathlib import Path

from bench.disk.storage import writing
from bench.errors import BenchError, out_of_memory
from bench.execution.asking import Alone
from bench.text.plain import printable
from bench.text.secrets import without_secrets


class Starved(BenchError):
    """A cell ran out of memory that other cells may have been using.

    Args:
        said: the fault in a line.
        memory: which memory.
    """

    def __init__(self, said: str, memory: Alone) -> None:
        super().__init__(said)
        self.memory = memory


def memory_of(fault: BaseException | None) -> Alone:
    """Which memory ran out, if that is what the fault, or a fault behind it, is about."""
    while fault is not None:
        if isinstance(fault, Starved):
            return fault.memory
        if out_of_memory(fault):
            return "gpu"
        if isinstance(fault, MemoryError) or "DefaultCPUAllocator" in str(fault):
            return "host"
        fault = fault.__cause__ or fault.__context__
    return ""


LONGEST = 2000  # of a reason, which may list all that is allowed


def sentence(fault: Exception) -> str:
    """A fault in one line, without tokens that it may quote."""
    text = printable(without_secrets(" ".join(str(fault).split())))
    if isinstance(fault, Starved):
        return text
    name = "" if isinstance(fault, BenchError) else f"{type(fault).__name__}: "
    if "out of memory" in text.lower() or isinstance(fault, MemoryError):
        return f"out of memory: {text[:200]}"
    return (name + text)[:LONGEST] or type(fault).__name__


def log_trace(folder: Path, fault: BaseException) -> None:
    """Put the trace of a fault at the end of a cell's log, without tokens that it may quote.

    Args:
        folder: the cell's folder.
        fault: what was raised.
    """
    path = folder / "log.txt"
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(trace(fault))


def trace(fault: BaseException) -> str:
    """The trace of a fault, without tokens that it may quote."""
    return without_secrets("".join(traceback.format_exception(fault)))
