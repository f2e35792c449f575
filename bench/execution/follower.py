"""Every rank of a cell but the first: it takes the steps that the first tells it, and says what they cost."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from bench.cell import Cell
from bench.errors import BenchError, Unavailable
from bench.execution.asking import Alone
from bench.execution.death import end_group_with, wait_and_end_group
from bench.execution.faults import Starved, log_trace, memory_of, sentence
from bench.execution.meter import Bill, Meter
from bench.execution.work import Surroundings, Work
from bench.registry import load_plugins


@dataclass(frozen=True)
class Word:
    """What a rank says to the first.

    Attributes:
        bill: what the step cost.
        fault: why it could not be taken, in a line; empty if it was.
        starved: which memory ran out, if that was why.
        absent: whether this machine lacks something, so that the cell is left out.
    """

    bill: Bill = field(default_factory=dict)
    fault: str = ""
    starved: Alone = ""
    absent: bool = False

    def as_error(self) -> BenchError:
        """The fault, to be raised by the first rank."""
        if self.absent:
            return Unavailable(self.fault)
        return Starved(self.fault, self.starved) if self.starved else BenchError(self.fault)


@dataclass(frozen=True)
class Own:
    """What one rank has for itself.

    Attributes:
        rank: its number, from 1.
        gpu: the GPU that it may see; empty for none.
        channel: its end of the pipe to the first rank.
        collar: the other end of a pipe that closes with the first rank.
    """

    rank: int
    gpu: str
    channel: Connection
    collar: Connection


def follow(cell: Cell, where: Surroundings, own: Own, not_ours: Sequence[Connection]) -> None:
    """Body of the process.

    Args:
        cell: what is run.
        where: its surroundings.
        own: what this rank has for itself.
        not_ours: pipes of the first rank that this process must not hold open.
    """
    for other in not_ours:
        other.close()
    end_group_with(own.collar)
    wait_and_end_group(own.collar)
    os.environ["CUDA_VISIBLE_DEVICES"] = own.gpu
    try:
        _take_steps(cell, where, own)
    except Exception as fault:
        log_trace(where.store.folder(cell.key), fault)
        absent = isinstance(fault, Unavailable)
        who = "" if absent else f"rank {own.rank} of {where.ask.ranks}: "
        own.channel.send(Word({}, who + sentence(fault), memory_of(fault), absent))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _take_steps(cell: Cell, where: Surroundings, own: Own) -> None:
    load_plugins(where.plugins)
    meter, steps = Meter(), _Steps(cell, where, own)
    while True:
        step, *words = own.channel.recv().split()
        with meter.phase(step):
            getattr(steps, step)(*words)
        own.channel.send(Word(meter.cost.pop(step)))


@dataclass
class _Steps:
    """What the first rank may tell the others to do."""

    cell: Cell
    where: Surroundings
    own: Own

    def join(self, port: str) -> None:
        from bench.execution.grouping import enter_group

        enter_group(int(port), self.own.rank, self.where.ask.ranks, self.where.device)

    def begin(self) -> None:
        self._work = Work.begin(self.cell, self.where, lambda done, total, **numbers: None)

    def restore(self) -> None:
        self._work.restore()

    def fit(self) -> None:
        self._work.fit()

    def recommend(self, phase: str) -> None:
        self._work.recommend(phase)
