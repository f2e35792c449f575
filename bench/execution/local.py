"""Cells as child processes of this machine: one process a cell, one slot a GPU or a share of the cores.

A crash, a leak or a memory kill stays inside its own process. Cells that need heavy libraries are forked
from a server process that has them loaded, so they start in well under a second; the others start from
nothing, so they wait for no library and their memory is their own.

Runner and cell hold the two ends of one pipe. The kernel closes an end with its process, however that went:
a cell whose runner is gone ends itself, and a cell that outlives the server it was forked from is still known
to be at work.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import psutil

from bench.cell import Cell
from bench.errors import ConfigError, StorageError
from bench.execution.process import End, died, log_to, run_claimed
from bench.execution.runner import Surroundings
from bench.results.machine import usable_gpus
from bench.results.source_hash import libraries

CELL_GIB = 6.0  # what the largest cells of scale embedded need
NO_CODE = 255  # what multiprocessing makes of a child whose server died before it
SERVERS = 3  # tries to fork from a server that was killed; each try starts another one
SERVER_SECONDS = 0.3  # between two of them
END_SECONDS = 10.0  # for a killed process to be gone
PRELOAD, WANTED = "bench.execution.preload", "BENCH_PRELOAD"
# by library, the modules that take long to import; whatever else a cell needs it imports itself
HEAVY = {
    "torch": ("torch",),
    "recbole": ("baselines._recbole",),
    "transformers": ("transformers", "transformers.models.llama.modeling_llama"),
    "peft": ("peft",),
}


@dataclass(frozen=True)
class Slot:
    """A place for one cell at a time.

    Attributes:
        gpu: the GPU that the cell alone may see, as CUDA_VISIBLE_DEVICES names it; None for a CPU slot.
        threads: CPU threads of the cell.
    """

    gpu: str | None
    threads: int


@dataclass
class Handle:
    """A running cell.

    Attributes:
        channel: the runner's end of the pipe that it shares with the cell.
        started: when, on the monotonic clock.
    """

    cell: Cell
    slot: Slot
    process: BaseProcess
    channel: Connection
    started: float
    note: str = ""
    word: End | None = None
    closed: bool = False

    def end(self) -> End | None:
        """How the process ended; None while it runs."""
        code = self.process.exitcode
        self._listen()
        if code is None or (code == NO_CODE and not self.closed):
            return None
        return self.word or died("its process", code)

    def _listen(self) -> None:
        try:
            while not self.closed and self.channel.poll():
                self.word = End(**json.loads(self.channel.recv_bytes()))
        except (OSError, EOFError):
            self.closed = True

    def kill(self) -> None:
        """End the cell and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError, TypeError):
            os.killpg(self.process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        self.process.kill()
        self.process.join(END_SECONDS)


def slots(jobs: int | None, gpus: Sequence[int] | None = None) -> list[Slot]:
    """One slot a GPU if there are any, else ``jobs`` shares of the cores.

    On a CPU the default packs cells rather than threads, as these models are too small for many threads to
    help one of them: two threads a cell, one on a machine of three cores or fewer, and memory for each.

    Args:
        jobs: most cells at a time, None for the default.
        gpus: which GPUs, counted among those this process may see; None for all, empty for the CPU.

    Raises:
        ConfigError: fewer than one job, or a GPU that does not exist.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(
            f"--jobs {jobs}: it must be 1 or more; leave it out for one a GPU, or as many as the cores carry"
        )
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if found := [name for name, _ in usable_gpus(gpus)]:
        n = min(jobs or len(found), len(found))
        return [Slot(name, max(cores // n, 1)) for name in found[:n]]
    n = min(jobs or _carried(cores), cores)
    return [Slot(None, max(cores // n, 1)) for _ in range(n)]


def _carried(cores: int) -> int:
    """Cells that this machine's cores and memory carry at a time."""
    by_memory = int(psutil.virtual_memory().available / 2**30 / CELL_GIB)
    return max(1, min(cores if cores < 4 else cores // 2, by_memory))


def heavy(cell: Cell) -> set[str]:
    """The heavy libraries that a cell may import."""
    found = libraries(cell.method, loss=cell.loss, decoder=cell.decoder, config=cell.config)
    return HEAVY.keys() & found


class LocalExecutor:
    """Starts cells on this machine.

    Args:
        places: the slots; see ``slots``.
        cells: what will run; their libraries begin to load at once, beside the first cells.
    """

    def __init__(self, places: Sequence[Slot], cells: Iterable[Cell] = ()) -> None:
        self.places, self.free = list(places), list(places)
        self._spawn = multiprocessing.get_context("spawn")
        self._forkserver = multiprocessing.get_context("forkserver")
        self._forkserver.set_forkserver_preload([PRELOAD])
        wanted = {library for cell in cells for library in heavy(cell)}
        self._preload = ",".join(name for name in HEAVY if name in wanted)
        if wanted:
            with _environment(WANTED, self._preload):
                forkserver.ensure_running()

    @property
    def has_room(self) -> bool:
        """Whether another cell can start now."""
        return bool(self.free)

    def is_left(self, cell: Cell) -> bool:
        """Never: no cell of this machine outlives its runner."""
        return False

    def start(self, cell: Cell, where: Surroundings) -> Handle:
        """Start a cell in a free slot."""
        slot = self.free.pop(0)
        device = "cpu" if slot.gpu is None else "cuda"
        where = replace(where, threads=slot.threads, device=device)
        ours, theirs = multiprocessing.Pipe()
        try:
            process = self._start(cell, (cell, where, slot.gpu, theirs))
        except BaseException:
            self._free(slot)
            raise
        finally:
            theirs.close()
        return Handle(cell, slot, process, ours, time.monotonic())

    def _start(self, cell: Cell, arguments: tuple[object, ...]) -> BaseProcess:
        process: BaseProcess
        if not heavy(cell):
            process = self._spawn.Process(target=_child, args=arguments)
            with _nameless_script():
                process.start()
            return process
        for number in range(SERVERS):
            process = self._forkserver.Process(target=_child, args=arguments)
            try:
                with _nameless_script(), _environment(WANTED, self._preload):
                    process.start()
                break
            except (OSError, EOFError):  # the server was killed on the way; the next try starts one
                if number == SERVERS - 1:
                    raise
                time.sleep(SERVER_SECONDS)  # one that is being killed may still pass for running
        return process

    def finish(self, handle: Handle) -> None:
        """Give a cell's slot back."""
        handle.process.join(END_SECONDS)
        handle.channel.close()
        self._free(handle.slot)

    def _free(self, slot: Slot) -> None:
        self.free.append(slot)
        self.free.sort(key=self.places.index)

    def stop(self, handles: Sequence[Handle]) -> None:
        """End every cell that is left."""
        for handle in handles:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(handle.process.pid or 0, signal.SIGKILL)
        for handle in handles:
            handle.kill()
            self.finish(handle)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for the processes started in the body."""
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextlib.contextmanager
def _nameless_script() -> Iterator[None]:
    """Hide the running script, which a child would otherwise run again unless it has a main guard."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _child(cell: Cell, where: Surroundings, gpu: str | None, channel: Connection) -> None:
    """Body of a cell's process."""
    os.setsid()
    _let_the_kernel_end_us(channel)
    if channel.poll():  # the runner says nothing, so this is the end of it: it died before we began
        os._exit(0)
    threading.Thread(target=_end_with_runner, args=(channel,), daemon=True).start()
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the order in which slots count
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        log_to(where.store.folder(cell.key) / "log.txt")
    except StorageError as disk:
        end = End("storage", str(disk))
    else:
        end = run_claimed(cell, where)
    channel.send_bytes(json.dumps(asdict(end)).encode())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(0)  # libraries leave threads behind that would hold the process open


def _let_the_kernel_end_us(channel: Connection) -> None:
    """Ask Linux to kill this process and what it started once the runner's end of the pipe is closed.

    A thread cannot do it while one long call of a library holds the interpreter.
    """
    if sys.platform == "linux":
        fcntl.fcntl(channel.fileno(), fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(channel.fileno(), fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(channel.fileno(), fcntl.F_GETFL)
        fcntl.fcntl(channel.fileno(), fcntl.F_SETFL, flags | os.O_ASYNC)


def _end_with_runner(channel: Connection) -> None:
    """End this process, and what it started, when the runner is gone."""
    connection.wait([channel])
    os.killpg(0, signal.SIGKILL)


def describe(places: Sequence[Slot]) -> str:
    """One line about the slots, e.g. ``1 cell at a time, 2 threads each, no GPU``."""
    gpus = [slot.gpu for slot in places if slot.gpu is not None]
    kind = f"GPU {', '.join(gpus)}" if gpus else "no GPU"
    return f"{len(places)} cell(s) at a time, {places[0].threads} thread(s) each, {kind}"
