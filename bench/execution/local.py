"""Cells as child processes of this machine, each in a place of its own (see ``places``).

A crash, a leak or a memory kill stays inside its own process. Cells that need heavy libraries are forked
from a server process that has them loaded, so they start in well under a second; the others start from
nothing, so they wait for no library and their memory is their own.

Runner and cell hold the two ends of one pipe. The kernel closes an end with its process, however that went:
a cell whose runner is gone ends itself, and a cell that outlives the server it was forked from is still known
to be at work.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from bench.cell import Cell
from bench.errors import StorageError
from bench.execution.asking import Ask
from bench.execution.claimed import run_claimed
from bench.execution.death import end_group_with, wait_and_end_group
from bench.execution.places import Places, Slot
from bench.execution.process import End, died, log_to
from bench.execution.team import Team
from bench.execution.work import Surroundings
from bench.results.source_hash import libraries

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


def heavy(cell: Cell) -> set[str]:
    """The heavy libraries that a cell may import."""
    found = libraries(cell.method, loss=cell.loss, decoder=cell.decoder, config=cell.config)
    return HEAVY.keys() & found


class LocalExecutor:
    """Starts cells on this machine.

    Args:
        places: what this machine has; see ``places``.
        cells: what will run; their libraries begin to load at once, beside the first cells.
    """

    def __init__(self, places: Places, cells: Iterable[Cell] = ()) -> None:
        self.places = places
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
        """Whether some cell may be able to start now."""
        return len(self.places.taken) < self.places.most

    def fits(self, ask: Ask) -> bool:
        """Whether a cell that asks for this can start now."""
        return self.places.find(ask) is not None

    def is_left(self, cell: Cell) -> bool:
        """Never: no cell of this machine outlives its runner."""
        return False

    def start(self, cell: Cell, where: Surroundings) -> Handle | None:
        """Start a cell; None if there is no place for it at present."""
        slot = self.places.find(where.ask)
        if slot is None:
            return None
        where = replace(where, threads=slot.threads, device=slot.device, shares=slot.shares)
        ours, theirs = multiprocessing.Pipe()
        self.places.take(slot)
        try:
            process = self._start(cell, (cell, where, slot.gpus, theirs))
        except BaseException:
            self.places.give_back(slot)
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
        """Give a cell's place back."""
        handle.process.join(END_SECONDS)
        handle.channel.close()
        self.places.give_back(handle.slot)

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


def _child(cell: Cell, where: Surroundings, gpus: Sequence[str], channel: Connection) -> None:
    """Body of a cell's process."""
    os.setsid()
    end_group_with(channel)
    if channel.poll():  # the runner says nothing, so this is the end of it: it died before we began
        os._exit(0)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0] if gpus else ""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the order in which slots count
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    def say(end: End) -> None:
        channel.send_bytes(json.dumps(asdict(end)).encode())

    try:
        log_to(where.store.folder(cell.key) / "log.txt")
    except StorageError as disk:
        say(End("storage", str(disk)))
        os._exit(0)
    team = Team.fork(cell, where, gpus, say, held=[channel])
    wait_and_end_group(channel)  # from here on there are threads, and no other rank can be forked
    say(run_claimed(cell, where, team))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(0)  # libraries leave threads behind that would hold the process open
