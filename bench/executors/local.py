"""Cells as child processes of this machine: one process a cell, one slot a GPU or a share of the cores.

Children are forked from a server process that has the heavy libraries loaded, so a cell starts in well
under a second, and a crash, a leak or a memory kill stays inside its own process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from typing import Any

from bench.cell import Cell
from bench.runner import Surroundings, run_cell
from bench.suite import gpu_memory_gib

BUSY = 75  # exit code: another runner holds the cell
PRELOAD = ["bench.executors.preload"]


@dataclass(frozen=True)
class Slot:
    """A place for one cell at a time.

    Attributes:
        gpu: index of the GPU the cell alone may see, None for a CPU slot.
        threads: CPU threads of the cell.
    """

    gpu: int | None
    threads: int


@dataclass
class Handle:
    """A running cell."""

    cell: Cell
    slot: Slot
    process: BaseProcess
    started: float
    why: str = ""

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self.process.exitcode

    def kill(self) -> None:
        """End the cell and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError, TypeError):
            os.killpg(self.process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        self.process.kill()
        self.process.join(10)


def slots(jobs: int | None, gpus: Sequence[int] | None = None) -> list[Slot]:
    """One slot a GPU if there are any, else ``jobs`` shares of the cores (one cell with all by default)."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    found = list(gpus) if gpus is not None else list(range(len(gpu_memory_gib())))
    if found:
        n = min(jobs or len(found), len(found))
        return [Slot(gpu, max(cores // n, 1)) for gpu in found[:n]]
    n = min(jobs or 1, cores)
    return [Slot(None, max(cores // n, 1)) for _ in range(n)]


class LocalExecutor:
    """Starts cells on this machine.

    Args:
        places: the slots; see ``slots``.
    """

    def __init__(self, places: Sequence[Slot]) -> None:
        self.free = list(places)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)

    @property
    def has_room(self) -> bool:
        """Whether another cell can start now."""
        return bool(self.free)

    def start(self, cell: Cell, where: Surroundings) -> Handle:
        """Start a cell in a free slot."""
        slot = self.free.pop(0)
        device = "cpu" if slot.gpu is None else "cuda"
        where = replace(where, threads=slot.threads, device=device)
        process = self._context.Process(
            target=_child, args=(cell, where, slot.gpu, os.getpid()), daemon=False
        )
        process.start()
        return Handle(cell, slot, process, time.monotonic())

    def finish(self, handle: Handle) -> None:
        """Give a cell's slot back."""
        handle.process.join(10)
        self.free.append(handle.slot)
        self.free.sort(key=lambda slot: slot.gpu or 0)


def _child(cell: Cell, where: Surroundings, gpu: int | None, parent: int) -> None:
    """Body of a cell's process."""
    os.setsid()
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    folder = where.store.folder(cell.key)
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "log.txt").open("a", encoding="utf-8", buffering=1)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    with where.store.claim(cell.key) as held:
        code = _run(cell, where) if held else BUSY
    log.flush()
    os._exit(code)  # libraries leave threads behind that would hold the process open


def _run(cell: Cell, where: Surroundings) -> int:
    try:
        run_cell(cell, where)
    except KeyboardInterrupt:
        return 130
    return 0


def _die_with(parent: int) -> None:
    """End this process when the runner is gone, however it went."""
    while True:
        time.sleep(1.0)
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.killpg(0, signal.SIGKILL)


def describe(places: Sequence[Slot]) -> str:
    """One line about the slots, e.g. ``1 cell at a time, 2 threads each, no GPU``."""
    kind: Any = "no GPU" if places[0].gpu is None else f"GPU {[slot.gpu for slot in places]}"
    return f"{len(places)} cell(s) at a time, {places[0].threads} thread(s) each, {kind}"
