"""Which GPUs, cores and memory of this machine are free for another cell.

A cell has its GPUs for itself, unless the peak memory of a finished cell of its kind is known: such cells
share a GPU as long as their peaks fit together. Without a GPU, cells share the cores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

from bench.errors import ConfigError
from bench.execution.asking import Ask
from bench.results.machine import usable_gpus

CELL_GIB = 6.0  # host memory that the largest cells of scale embedded need
CELLS_A_GPU = 4  # more would mostly wait for each other
# a measured peak counts tensors; fragments and the GPU's context come on top
PEAK_FACTOR, CONTEXT_BYTES = 1.2, 2.0**30
USABLE = 0.95  # of a GPU's memory: other programs and the driver hold some


@dataclass(frozen=True, eq=False)
class Slot:
    """A place that a cell has while it runs.

    Attributes:
        gpus: the GPUs that it alone may see, one a rank, as CUDA_VISIBLE_DEVICES names them; empty on a CPU.
        threads: CPU threads of each of its processes.
        shares: the memories that other cells may use beside it: ``gpu``, ``host``.
        gpu_bytes: GPU memory that is kept for it; None for all of its GPUs.
        alone: whether no other cell may run beside it.
    """

    gpus: tuple[str, ...]
    threads: int
    shares: tuple[str, ...] = ()
    gpu_bytes: float | None = None
    alone: bool = False

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return "cuda" if self.gpus else "cpu"


@dataclass
class Places:
    """What there is, and what of it is taken.

    Attributes:
        gpus: memory of each GPU in bytes, by name, in the order in which they are used; empty for the CPU.
        most: cells at a time.
        threads: CPU threads for each GPU, or for each cell where there is none.
    """

    gpus: dict[str, float]
    most: int
    threads: int
    taken: list[Slot] = field(default_factory=list)

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``, where cells run."""
        return "cuda" if self.gpus else "cpu"

    def find(self, ask: Ask) -> Slot | None:
        """A place for a cell, not yet taken; None while there is none."""
        if len(self.taken) >= self.most or any(slot.alone for slot in self.taken):
            return None
        alone = ask.alone == "host"
        if alone and self.taken:
            return None
        host = () if alone or self.most == 1 else ("host",)
        if not self.gpus:
            return Slot((), max(self.threads // ask.ranks, 1), host, alone=alone)
        shared = None if ask.ranks > 1 or ask.alone else self._room_in_one(ask.gpu_bytes)
        if shared is not None:
            name, need = shared
            return Slot((name,), self.threads, ("gpu", *host) if host else (), need)
        if ask.gpu_bytes is not None and ask.ranks == 1 and not ask.alone and self._fits(ask):
            return None  # it waits for room beside others rather than for a whole GPU
        free = tuple(name for name in self.gpus if not self._on(name))[: ask.ranks]
        return Slot(free, self.threads, host, alone=alone) if len(free) == ask.ranks else None

    def _fits(self, ask: Ask) -> bool:
        return kept_for(ask.gpu_bytes or 0.0) <= max(self.gpus.values()) * USABLE

    def _on(self, name: str) -> list[Slot]:
        return [slot for slot in self.taken if name in slot.gpus]

    def _room_in_one(self, peak: float | None) -> tuple[str, float] | None:
        """The GPU with the fewest cells that has this much room, and how much is kept there."""
        if peak is None:
            return None
        need, found = kept_for(peak), []
        for place, (name, size) in enumerate(self.gpus.items()):
            held = [slot.gpu_bytes for slot in self._on(name)]
            known = [used for used in held if used is not None]
            room = len(known) == len(held) < CELLS_A_GPU
            if room and sum(known) + need <= size * USABLE:
                found.append((len(held), place, name))
        return (min(found)[2], need) if found else None

    def take(self, slot: Slot) -> None:
        """Let a cell have a place that ``find`` found."""
        self.taken.append(slot)

    def give_back(self, slot: Slot) -> None:
        """Take a place back."""
        self.taken.remove(slot)

    def __str__(self) -> str:
        kind = f"GPU {', '.join(self.gpus)}" if self.gpus else "no GPU"
        if self.gpus:
            return f"at most {self.most} cell(s) at a time, {self.threads} thread(s) a GPU, {kind}"
        return f"{self.most} cell(s) at a time, {self.threads} thread(s) each, {kind}"


def kept_for(peak: float) -> float:
    """Bytes of GPU memory to keep for a cell whose tensors took so many at their peak."""
    return peak * PEAK_FACTOR + CONTEXT_BYTES


def places(jobs: int | None, gpus: Sequence[int] | None = None) -> Places:
    """What this machine has for cells.

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
            f"--jobs {jobs}: it must be 1 or more; leave it out for as many as GPUs or cores carry"
        )
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if found := usable_gpus(gpus):
        most = jobs or max(len(found), min(CELLS_A_GPU * len(found), cores))
        memory = {name: gib * 2**30 for name, gib in found}
        return Places(memory, most, max(cores // min(most, len(found)), 1))
    n = min(jobs or _carried(cores), cores)
    return Places({}, n, max(cores // n, 1))


def _carried(cores: int) -> int:
    """Cells that this machine's cores and memory carry at a time."""
    by_memory = int(psutil.virtual_memory().available / 2**30 / CELL_GIB)
    return max(1, min(cores if cores < 4 else cores // 2, by_memory))
