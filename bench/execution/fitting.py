"""The fit of a cell: done once, resumed after an interruption, its cost added up over all attempts."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import Unavailable
from bench.execution.meter import Meter, Reading
from bench.method import Method, keep, restore
from bench.results.store import write_json

EVERY_SECONDS = 5.0  # between two notes of an unfinished bill


@dataclass
class Fitting:
    """Fits the method of one cell, or restores it if an earlier attempt got that far.

    Attributes:
        folder: the cell's folder in the run store. ``fit.json`` there holds cost and facts of a finished
            fit, ``fit-part.json`` those of an unfinished one.
        meter: the cost is added to it, under ``fit``.
    """

    folder: Path
    meter: Meter
    _reading: Reading | None = field(default=None, repr=False)
    _part: dict[str, Any] = field(default_factory=dict, repr=False)
    _noted: float = field(default=0.0, repr=False)

    @property
    def bill(self) -> Path:
        """File with the cost and facts of the finished fit."""
        return self.folder / "fit.json"

    @property
    def part(self) -> Path:
        """File with the cost of an unfinished fit."""
        return self.folder / "fit-part.json"

    @property
    def model(self) -> Path:
        """Folder of the fitted method."""
        return self.folder / "model"

    def forget(self) -> None:
        """Delete the fitted method, its checkpoints and its costs, so that the cell is fitted anew."""
        # the manifest first: a process killed in here must not leave what looks like a fitted method
        for path in (self.model / "method.json", self.bill, self.part):
            path.unlink(missing_ok=True)
        for folder in (self.model, self.folder / "scratch"):
            shutil.rmtree(folder, ignore_errors=True)

    def restored(self, device: str) -> Method | None:
        """The method that an earlier attempt fitted; None if there is none or it cannot be read."""
        if not (self.bill.exists() and (self.model / "method.json").exists()):
            return None
        try:
            cost = json.loads(self.bill.read_text(encoding="utf-8"))["cost"]
            method = restore(self.model, device=device)
        except Unavailable:
            raise
        except Exception:  # whatever is wrong with it, fitting again is the way out
            traceback.print_exc()
            self.forget()
            return None
        self.meter.add("fit", cost)
        return method

    def run(self, method: Method, fit: Callable[[], None], facts: dict[str, Any]) -> None:
        """Fit a method and save it; the cost of interrupted attempts is added to this one's.

        Args:
            method: saved once it is fitted.
            fit: a call that fits it.
            facts: its facts, saved with the cost; ``attempts`` is added.
        """
        (self.folder / "scratch").mkdir(parents=True, exist_ok=True)
        self.bill.unlink(missing_ok=True)
        self._part = _read(self.part)
        self._part["attempts"] += 1
        write_json(self.part, self._part)
        self.meter.add("fit", self._part["cost"])
        try:
            with self.meter.phase("fit") as self._reading:
                fit()
        finally:
            self._reading = None
            write_json(self.part, {**self._part, "cost": self.meter.cost["fit"]})
        keep(method, self.model)
        facts["attempts"] = self._part["attempts"]
        write_json(self.bill, {"cost": self.meter.cost["fit"], "facts": facts})
        self.part.unlink()

    def note(self) -> None:
        """Write the cost so far, every few seconds, so that it is known even if the process is killed."""
        if self._reading is None or time.monotonic() - self._noted < EVERY_SECONDS:
            return
        self._noted = time.monotonic()
        total = Meter()
        for cost in (self._part["cost"], self._reading.bill()):
            total.add("fit", cost)
        write_json(self.part, {**self._part, "cost": total.cost["fit"]})


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {"cost": {}, "attempts": 0}
