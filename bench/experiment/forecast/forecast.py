"""What a cell is expected to take: time with an interval, memory, disk, and on what that rests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Basis = Literal["own cell", "own rows", "calibration", "published", "estimate", "unknown"]
UNKNOWN_SECONDS = 3600.0  # what a cell of which nothing is known counts in a budget
LEVEL = 0.8  # how often the actual time lies in the interval


@dataclass(frozen=True)
class Forecast:
    """What one cell will take.

    Attributes:
        seconds: wall time of the whole cell; ``UNKNOWN_SECONDS`` where nothing is known.
        spread: the interval is from ``seconds / exp(spread)`` to ``seconds * exp(spread)``; the actual time
            lies in it four times of five.
        basis: what it rests on: the row of such a cell made here, other rows made here, the calibration,
            published rows, the method's own estimate alone, or nothing.
        host_bytes, disk_bytes: peak memory of the host, and what is kept on disk; None if unknown.
        gpu_bytes: peak memory on a GPU of a row of such a cell; None if there is none.
    """

    seconds: float = UNKNOWN_SECONDS
    spread: float = math.inf
    basis: Basis = "unknown"
    host_bytes: float | None = None
    gpu_bytes: float | None = None
    disk_bytes: float | None = None

    @property
    def known(self) -> bool:
        """Whether anything is known."""
        return self.basis != "unknown"

    @property
    def measured(self) -> bool:
        """Whether it is the time of such a cell that was made here."""
        return self.basis == "own cell"

    @property
    def low(self) -> float:
        """Lower end of the interval in seconds."""
        return self.seconds * math.exp(-self.spread)

    @property
    def high(self) -> float:
        """Upper end of the interval in seconds; infinite where nothing is known."""
        return self.seconds * math.exp(self.spread)

    @property
    def interval(self) -> tuple[float, float, float] | None:
        """Seconds with the ends of the interval; None where nothing is known."""
        return (self.seconds, self.low, self.high) if self.known else None


UNKNOWN = Forecast()


def spread_of_sum(parts: Sequence[Forecast]) -> float:
    """Spread of the time that some cells take together.

    Half of the variance of each is taken to be shared by all (the machine's speed), half to be its own.
    """
    total = sum(part.seconds for part in parts)
    if not total:
        return 0.0
    weighted = [part.seconds / total * part.spread for part in parts if part.known]
    shared, own = sum(weighted) ** 2, sum(one**2 for one in weighted)
    return math.sqrt((shared + own) / 2)
