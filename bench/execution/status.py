"""Status of a running cell: its phase and progress, in one small file."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.results.store import write_json

EVERY_SECONDS = 0.5


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
        self._first = self._first or {"done": done, "at": time.time()}
        if done < total and time.monotonic() - self._last < EVERY_SECONDS:
            return
        self._last = time.monotonic()
        self._write(done, total, {k: float(v) for k, v in numbers.items()})

    def _write(self, done: float, total: float, numbers: dict[str, float]) -> None:
        state = {"phase": self.phase, "done": done, "total": total, "first": self._first}
        write_json(self.path, {**state, "at": time.time(), "numbers": numbers})


def read_status(path: Path) -> dict[str, Any]:
    """The last state that a cell reported; empty before its first report."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def remaining(state: dict[str, Any], predicted: float, elapsed: float) -> float:
    """Seconds that a running cell still needs, 0 or more.

    Once this attempt has done a tenth of its work, they follow from its own pace; before that from the
    prediction.

    Args:
        state: what ``read_status`` returned.
        predicted: seconds of the whole cell, from the plan.
        elapsed: seconds since the cell was started.
    """
    first = state.get("first") or {}
    if state.get("phase") == "fit" and first:
        came, left = state["done"] - first["done"], state["total"] - state["done"]
        if came > 0 and came >= 0.1 * (came + left):
            pace = (state["at"] - first["at"]) / came
            return max(pace * left - (time.time() - state["at"]), 0.0)
    return max(predicted - elapsed, 0.0)
