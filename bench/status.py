"""What a running cell says of itself: phase and progress, in one small file that anyone may read."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.store import write_json

EVERY_SECONDS = 0.5


@dataclass
class Status:
    """Writer of a cell's status file; rate-limited, so a method may report as often as it likes."""

    path: Path
    phase: str = "start"
    _last: float = field(default=0.0, repr=False)
    _began: float = field(default_factory=time.time, repr=False)

    def enter(self, phase: str) -> None:
        """Begin a phase."""
        self.phase, self._last, self._began = phase, 0.0, time.time()
        self.report(0.0, 1.0)

    def report(self, done: float, total: float, **numbers: float) -> None:
        """Say how far the phase is; numbers (loss, ndcg5 ...) are shown beside it."""
        if done < total and time.monotonic() - self._last < EVERY_SECONDS:
            return
        self._last = time.monotonic()
        shown = {k: float(v) for k, v in numbers.items()}
        state = {"phase": self.phase, "done": done, "total": total, "began": self._began}
        write_json(self.path, {**state, "at": time.time(), "numbers": shown})


def read_status(path: Path) -> dict[str, Any]:
    """The last state a cell reported; empty before its first word."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def remaining(state: dict[str, Any], predicted: float, elapsed: float) -> float:
    """Seconds a running cell still needs.

    The fit's own pace once a tenth of it is done, the prediction until then; never below zero.
    """
    share = state.get("done", 0.0) / max(state.get("total", 1.0), 1e-9)
    if state.get("phase") == "fit" and share >= 0.1:
        spent = max(state["at"] - state["began"], 0.0)
        return max(spent / share * (1 - share) - (time.time() - state["at"]), 0.0)
    return max(predicted - elapsed, 0.0)
