"""Status of a running cell: its phase and progress, in one small file."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.disk.sealed import read_note, write_note
from bench.errors import DamagedError

EVERY_SECONDS = 0.5
LATE = 0.1  # of its time so far, what a cell is given at least


@dataclass
class Status:
    """Writes a cell's status file, at most every few seconds however often a method reports."""

    path: Path
    phase: str = "start"
    _last: float = field(default=0.0, repr=False)
    _first: dict[str, float] = field(default_factory=dict, repr=False)

    def enter(self, phase: str) -> None:
        """Begin a phase."""
        self.phase, self._last, self._first = phase, 0.0, {}
        self._write(0.0, 1.0, {})

    def report(self, done: float, total: float, **numbers: float) -> None:
        """Report how far the phase is.

        Args:
            done: how much is done, in any unit.
            total: how much there is, in the same unit.
            **numbers: shown beside it, e.g. ``loss`` or ``ndcg5``.
        """
        # a fit resumed from a checkpoint does not begin at 0, so its pace is counted from its first report
        self._first = self._first or {"done": done, "at": time.monotonic()}
        if done < total and time.monotonic() - self._last < EVERY_SECONDS:
            return
        self._last = time.monotonic()
        self._write(done, total, {k: float(v) for k, v in numbers.items()})

    def _write(self, done: float, total: float, numbers: dict[str, float]) -> None:
        # the clock on the wall may be set at any time, so no duration is taken from it
        first, now = self._first or {"done": done, "at": time.monotonic()}, time.monotonic()
        took = {"came": done - first["done"], "took": now - first["at"], "at": now}
        state = {"phase": self.phase, "done": done, "total": total, "numbers": numbers}
        write_note(self.path, {**state, **took})


def read_status(path: Path) -> dict[str, Any]:
    """The last state that a cell reported; empty before its first report."""
    try:
        return read_note(path)
    except (OSError, DamagedError):
        return {}


def remaining(state: dict[str, Any], predicted: float, elapsed: float) -> float:
    """Seconds that a running cell still needs.

    Once this attempt has done a tenth of its work, they follow from its own pace; before that from the
    prediction, but never less than a tenth of the time it has taken so far.

    Args:
        state: what ``read_status`` returned.
        predicted: seconds of the whole cell, from the plan.
        elapsed: seconds since the cell was started.
    """
    came, left = state.get("came", 0.0), state.get("total", 0.0) - state.get("done", 0.0)
    if state.get("phase") == "fit" and came > 0 and came >= 0.1 * (came + left):
        # on another machine of a cluster the monotonic clock has another start
        since = min(max(time.monotonic() - state["at"], 0.0), elapsed)
        return max(state["took"] / came * left - since, 0.0)
    return max(predicted - elapsed, LATE * elapsed)
