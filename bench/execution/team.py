"""The processes of one cell that runs on several GPUs.

The cell's process is the first rank. It forks the others before it has loaded or opened anything, and tells
them step by step what to do, so that none decides anything by itself. torchrun would put an agent between
runner and cell, and each rank into a session of its own, which the runner's kill does not reach; here all
ranks are one process group. When the first rank is gone, the kernel ends the others by a pipe that closes
with it; when another is gone, the first tells the runner and ends the group.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NoReturn

from bench.cell import Cell
from bench.errors import BenchError, Unavailable
from bench.execution.faults import memory_of
from bench.execution.follower import Own, Word, follow
from bench.execution.meter import Bill
from bench.execution.process import End, died
from bench.execution.work import Surroundings

GRACE_SECONDS = 10.0  # for the first rank to notice the fault of another by itself
NOTICE_SECONDS = 2.0  # for the fault of another to arrive, once the first has one
FOR_EVER = 3600.0

Say = Callable[[End], None]


@dataclass
class Member:
    """Another rank, as the first sees it."""

    rank: int
    process: BaseProcess
    channel: Connection


class Team:
    """The other ranks of this process's cell; there are none in most cells.

    Args:
        members: the other ranks.
        say: tells the runner how the cell ended, before its processes are ended.
    """

    def __init__(self, members: Sequence[Member] = (), say: Say = lambda end: None) -> None:
        self.members, self.say = list(members), say
        self._bills: list[Bill] = []
        self._asked = 0
        self._fault: Word | None = None
        self._news = threading.Condition()
        self._lost = self._over = False
        self.leash: Connection | None = (
            None  # on which nothing is said; it closes with this process
        )
        if self.members:
            threading.Thread(target=self._watch, daemon=True).start()

    @classmethod
    def fork(
        cls,
        cell: Cell,
        where: Surroundings,
        gpus: Sequence[str],
        say: Say,
        held: Sequence[Connection] = (),
    ) -> Team:
        """Fork the other ranks of a cell; call it while this process has one thread and no open device.

        Args:
            cell: what is run.
            where: its surroundings; ``ask.ranks`` says how many processes there are.
            gpus: the GPU of each rank, as CUDA_VISIBLE_DEVICES names it; empty on a CPU.
            say: tells the runner how the cell ended.
            held: pipes of this process that the others must not hold open.
        """
        context = multiprocessing.get_context("fork")
        members: list[Member] = []
        leash, collar = context.Pipe()
        for rank in range(1, where.ask.ranks):
            ours, theirs = context.Pipe()
            # an end of ours that another process also held would not close with us
            not_theirs = [*held, leash, ours, *(member.channel for member in members)]
            own = Own(rank, gpus[rank] if gpus else "", theirs, collar)
            process = context.Process(target=follow, args=(cell, where, own, not_theirs))
            process.start()
            theirs.close()
            members.append(Member(rank, process, ours))
        collar.close()
        team = cls(members, say)
        team.leash = leash
        return team

    def join(self, device: str) -> None:
        """Make one group of all ranks, for torch.distributed.

        Args:
            device: ``cpu`` or ``cuda``.
        """
        if self.members:
            from bench.execution.grouping import gather_group

            gather_group(len(self.members) + 1, device, lambda port: self.tell(f"join {port}"))

    def tell(self, step: str) -> None:
        """Let the other ranks take a step once they have taken the last; they answer with what it cost."""
        self.bills()
        self._asked = len(self.members)
        for member in self.members:
            with contextlib.suppress(OSError):  # who is gone is seen by ``_watch``
                member.channel.send(step)

    def bills(self) -> list[Bill]:
        """What the step told last cost each of the other ranks, once all have taken it.

        Raises:
            BenchError: one of them could not.
        """
        with self._news:
            self._news.wait_for(lambda: self._fault or len(self._bills) == self._asked)
            found, self._bills, self._asked = self._bills, [], 0
        if self._fault:
            raise self._fault.as_error()
        return found

    def cause(self, fault: Exception) -> Exception:
        """What is to be told of a fault of this rank: that of another, where it only followed from it."""
        plain = isinstance(fault, (BenchError, Unavailable)) or memory_of(fault)
        if not self.members or plain:
            return fault
        with self._news:
            self._news.wait_for(lambda: self._fault or self._lost, timeout=NOTICE_SECONDS)
        if self._lost:
            time.sleep(FOR_EVER)  # ``_watch`` is about to end us all, and says why
        return self._fault.as_error() if self._fault else fault

    def end(self) -> None:
        """End the other ranks; their work is done, or in vain."""
        self._over = True
        for member in self.members:
            member.process.kill()
        for member in self.members:
            member.process.join()

    def _watch(self) -> None:
        """Hear what the other ranks say, and that one of them is gone."""
        open_ = {member.channel: member for member in self.members}
        while open_:
            for channel in connection.wait(list(open_)):
                member = open_[channel]  # type: ignore[index]
                try:
                    word: Word = member.channel.recv()
                except (OSError, EOFError):
                    if self._over:
                        return
                    if self._fault is None:
                        self._end_for(member)
                    del open_[member.channel]
                    continue
                self._hear(word)

    def _hear(self, word: Word) -> None:
        with self._news:
            if word.fault:
                self._fault = self._fault or word
            else:
                self._bills.append(word.bill)
            self._news.notify_all()
        if word.fault:
            threading.Thread(target=self._end_if_stuck, daemon=True).start()

    def _end_if_stuck(self) -> None:
        """End the group if the first rank still waits for one that has failed."""
        time.sleep(GRACE_SECONDS)
        if not self._over and self._fault:
            starved = self._fault.starved
            self._finish(End("memory" if starved else "fault", self._fault.fault, alone=starved))

    def _end_for(self, member: Member) -> NoReturn:
        with self._news:
            self._lost = True
            self._news.notify_all()
        member.process.join(GRACE_SECONDS)
        what, code = f"rank {member.rank} of {len(self.members) + 1}", member.process.exitcode
        self._finish(End("died", f"{what} is gone") if code is None else died(what, code))

    def _finish(self, end: End) -> NoReturn:
        self.say(end)
        os.killpg(0, signal.SIGKILL)
        time.sleep(FOR_EVER)
        raise AssertionError("killed")


SOLO = Team()
