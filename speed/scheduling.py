"""What the schedule itself costs: many cells that take no time, answered in place instead of by a process.

    python -m speed.scheduling [--cells 1000]

Prints seconds of the plan, of writing the rows, and of everything else that a run does, each for all cells.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bench.api import Order, default_store, execute, prepare
from bench.cell import Cell, Row
from bench.execution.asking import Ask
from bench.execution.process import End
from bench.execution.work import Surroundings
from bench.experiment.choice import Choice

SUITE = "title: t\ndatasets: [ml_100k]\ntest_rows: 20\nrows: [{method: popularity}]\n"


@dataclass
class Answered:
    """A cell that has its row already."""

    cell: Cell
    started: float = field(default_factory=time.monotonic)
    note: str = ""

    def end(self) -> End:
        """It is over."""
        return End("over")

    def kill(self) -> None:
        """Nothing is left to end."""


class InPlace:
    """Writes the row of a cell instead of running it; two at a time, as on a machine of two cores."""

    def __init__(self) -> None:
        self.running, self.writing = 0, 0.0

    @property
    def has_room(self) -> bool:
        """Whether one of the two places is free."""
        return self.running < 2

    def fits(self, ask: Ask) -> bool:
        """Always; see ``has_room``."""
        return True

    def is_left(self, cell: Cell) -> bool:
        """Never."""
        return False

    def start(self, cell: Cell, where: Surroundings) -> Answered:
        """Write the row."""
        self.running += 1
        began = time.monotonic()
        where.store.write(Row(cell=cell, status="failed", reason="not run"))
        self.writing += time.monotonic() - began
        return Answered(cell)

    def finish(self, handle: Answered) -> None:
        """Free the place."""
        self.running -= 1

    def stop(self, handles: Sequence[Answered]) -> None:
        """Nothing is left to end."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder, "suite.yaml")
        suite.write_text(SUITE)
        store = default_store(Path(folder, "out"), Path(folder, "run"))
        choice = Choice(scale="embedded", seeds=list(range(cells)))
        times = [time.monotonic()]
        prepared = prepare(Order(suite=str(suite), choice=choice), store)
        times.append(time.monotonic())
        executor = InPlace()
        rows = execute(prepared, executor=executor)
        times.append(time.monotonic())
    assert len(rows) == cells, f"{len(rows)} rows of {cells}"
    plan, run = (end - start for start, end in pairwise(times))
    parts = {"plan": plan, "rows": executor.writing, "schedule": run - executor.writing}
    print(json.dumps({"cells": cells, **{name: round(s, 2) for name, s in parts.items()}}))


if __name__ == "__main__":
    main()
