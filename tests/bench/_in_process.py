"""Cells in this very process, one at a time: quick, and what a test has changed holds for them too."""

import time
from dataclasses import dataclass, field

import pytest

from bench.api import execute, prepare
from bench.execution.claimed import run_claimed
from bench.execution.process import End
from bench.results.packed import Packed
from bench.results.row_files import rows_under


@dataclass
class Ended:
    """A cell that has run."""

    cell: object
    how: End
    started: float = field(default_factory=time.monotonic)
    note: str = ""

    def end(self):
        return self.how

    def kill(self):
        pass


class InProcess:
    """Runs a cell when it is started."""

    has_room = True

    def fits(self, ask):
        return True

    def is_left(self, cell):
        return False

    def start(self, cell, where):
        return Ended(cell, run_claimed(cell, where))

    def finish(self, handle):
        pass

    def stop(self, handles):
        pass


def run(order, store):
    """Run an order here; returns its rows and the lines that were said of damage."""
    said = []

    def hear(progress):
        said[:] = progress.said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.api.look_again", lambda: None)  # code and data are as they were
        rows = execute(prepare(order, store), executor=InProcess(), notify=hear)
    return rows, said


def answers(store):
    """By label, how often there is a row, its status and its positions."""
    found = {}
    for path, row in rows_under(store.rows):
        packed = path.with_suffix(".npz")
        title = Packed.load(packed).title.position_Q.tobytes() if packed.exists() else b""
        habit = row.cell.config.get("habit", "")
        found.setdefault(f"{row.cell.label} {habit}", []).append((row.status, title))
    return found


def lost_and_twice(before, after):
    """How many rows of ``before`` are not in ``after`` as they were, and how many of ``after`` are double."""
    lost = sum(label not in after or after[label][0] != rows[0] for label, rows in before.items())
    return lost, sum(len(rows) - 1 for rows in after.values())


def counted(store, expected):
    """How many rows of those expected in a store are missing, and how many are there too often."""
    there = sum(map(len, answers(store).values()))
    return max(expected - there, 0), max(there - expected, 0)
