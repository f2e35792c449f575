"""How long some cells take side by side, started as ``bench.execution.schedule`` starts them."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Protocol

from bench.cell import Cell


class Timed(Protocol):
    """A cell with the seconds it is expected to take."""

    @property
    def cell(self) -> Cell:
        """The cell."""

    @property
    def seconds(self) -> float:
        """Its wall time."""

    @property
    def ranks(self) -> int:
        """Processes that share its work."""


def wall_seconds(
    waiting: Sequence[Timed],
    places: int,
    *,
    running: Mapping[str, float] | None = None,
    wide: bool = False,
) -> float:
    """Seconds until all are done; a cell starts as soon as it has a place and what it needs is there.

    Args:
        waiting: in the order in which they start as far as their needs allow.
        places: cells at a time.
        running: seconds that are left of each running cell, by its key; each has one place.
        wide: whether each process of a cell takes a place, as on GPUs.
    """
    ends = [(left, key, 1) for key, left in (running or {}).items()]
    heapq.heapify(ends)
    now, free, queue = 0.0, max(places - len(ends), 0), list(waiting)
    unfinished = {key for _, key, _ in ends} | {job.cell.key for job in queue}
    while queue or ends:
        for job in list(queue):
            if not free:  # a run's display asks often, and of a thousand cells few have a place
                break
            width = min(job.ranks, places) if wide else 1
            if width <= free and not unfinished & set(job.cell.needs.values()):
                queue.remove(job)
                free -= width
                heapq.heappush(ends, (now + job.seconds, job.cell.key, width))
        if not ends:
            return now + sum(job.seconds for job in queue)
        now, key, width = heapq.heappop(ends)
        free += width
        unfinished.discard(key)
    return now
