"""The fit of a cell: done once, resumed after an interruption, its cost added up over all attempts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.disk.sealed import read_note, seal_of, set_aside, write_note
from bench.disk.storage import writing
from bench.errors import DamagedError, Unavailable
from bench.execution.faults import trace
from bench.execution.meter import Meter, Reading
from bench.execution.untouched import Untouched
from bench.method import Method, keep, restore
from bench.results.storable import plain_facts
from bench.saved import manifest_of

EVERY_SECONDS = 5.0  # between two notes of an unfinished bill
BILL, PART, MODEL = "fit.json", "fit-part.json", "model"


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
        return self.folder / BILL

    @property
    def part(self) -> Path:
        """File with the cost of an unfinished fit."""
        return self.folder / PART

    @property
    def model(self) -> Path:
        """Folder of the fitted method."""
        return self.folder / MODEL

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
            cost = check_fit(self.folder)["cost"]
            method = restore(self.model, device=device)
        except Unavailable:
            raise
        except DamagedError as damage:
            set_aside(damage)
            return None
        except Exception as fault:  # whatever is wrong with it, fitting again is the way out
            print(trace(fault), flush=True)
            self.forget()
            return None
        self.meter.add("fit", cost)
        return method

    def run(
        self, method: Method, fit: Callable[[], None], facts: dict[str, Any], inputs: Untouched
    ) -> None:
        """Fit a method and save it; the cost of interrupted attempts is added to this one's.

        Args:
            method: saved once it is fitted.
            fit: a call that fits it.
            facts: its facts, saved with the cost; ``attempts`` is added.
            inputs: what the call is given.

        Raises:
            ContractError: the call wrote to its inputs.
        """
        self._part = self._earlier()
        (self.folder / "scratch").mkdir(parents=True, exist_ok=True)
        self.bill.unlink(missing_ok=True)
        self._part["attempts"] += 1
        write_note(self.part, self._part)
        self.meter.add("fit", self._part["cost"])
        try:
            with self.meter.phase("fit") as self._reading:
                fit()
        finally:
            self._reading = None
            write_note(self.part, {**self._part, "cost": self.meter.cost["fit"]})
        inputs.check("fit")
        self._keep(method)
        facts["attempts"] = self._part["attempts"]
        bill = {"cost": self.meter.cost["fit"], "facts": plain_facts(facts)}
        write_note(self.bill, {**self._made(), **bill})
        self.part.unlink()

    def _keep(self, method: Method) -> None:
        """Save a method under another name first, so that its folder holds it whole or not at all."""
        fresh = self.folder / f".{MODEL}.part"
        shutil.rmtree(fresh, ignore_errors=True)
        keep(method, fresh)
        if self.model.is_file():
            set_aside(DamagedError(self.model, "a file lies where a folder was"))
        with writing(self.model):
            shutil.rmtree(self.model, ignore_errors=True)
            fresh.rename(self.model)

    def _made(self) -> dict[str, str]:
        """Whose fit it is and which files belong to it."""
        return {"cell": self.folder.name, "model": seal_of(read_note(self.model / "method.json"))}

    def _earlier(self) -> dict[str, Any]:
        """Cost and number of the attempts so far; where they cannot be read, the fit begins anew."""
        try:
            return read_note(self.part, older=("cost", "attempts"))
        except FileNotFoundError:
            return {"cost": {}, "attempts": 0}
        except DamagedError as damage:
            set_aside(damage)
            if (self.folder / "scratch").exists():
                why = "its cost is not known, as the note of it is damaged"
                set_aside(DamagedError(self.folder / "scratch", why))
            return {"cost": {}, "attempts": 0}

    def note(self) -> None:
        """Write the cost so far, every few seconds, so that it is known even if the process is killed."""
        if self._reading is None or time.monotonic() - self._noted < EVERY_SECONDS:
            return
        self._noted = time.monotonic()
        total = Meter()
        for cost in (self._part["cost"], self._reading.bill()):
            total.add("fit", cost)
        write_note(self.part, {**self._part, "cost": total.cost["fit"]})


def read_bill(folder: Path) -> dict[str, Any]:
    """Cost and facts of the finished fit in a cell's folder.

    Raises:
        DamagedError: the file is not as it was written, or was written for another cell.
    """
    bill = read_note(folder / BILL, older=("cost", "facts"))
    if bill.get("cell", folder.name) != folder.name:
        raise DamagedError(folder / BILL, f"it is of the cell {bill['cell']}")
    return bill


def check_fit(folder: Path, *, anew: bool = False) -> dict[str, Any]:
    """Compare a finished fit with what was written; returns its bill.

    Args:
        folder: of the cell.
        anew: read every byte even of large files that have been looked at before.

    Raises:
        DamagedError: a file is missing, not as it was written, or of another fit.
    """
    for path in (folder / BILL, folder / MODEL / "method.json"):
        if not path.exists():  # another process may just have set it aside
            raise DamagedError(path, "it is gone")
    bill = read_bill(folder)
    seal = seal_of(manifest_of(folder / MODEL, anew=anew))
    if bill.get("model", seal) != seal:
        raise DamagedError(folder / MODEL, "it is not the one that was fitted here")
    return bill


def upstream_seconds(models: Iterable[Path]) -> dict[str, float]:
    """By key, seconds of fit of every cell that some models are of or need themselves, each counted once.

    Raises:
        DamagedError: one of them is not as it was written.
    """
    found: dict[str, float] = {}
    for model in models:
        saved = check_fit(model.parent)
        found |= saved["facts"].get("upstream", {})
        found[model.parent.name] = saved["cost"]["seconds"]
    return found
