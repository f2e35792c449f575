"""Runs a finished cell once more from its configuration, and compares: does the row hold here?

Equal positions are what the same machine and libraries give. Elsewhere the order of near ties may turn, and
a fit may take another course, so a difference is judged: by the scores of the second run where they say that
the entries changed places within rounding, else by how far the mean moved.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import HEADLINE, Cell, Row
from bench.evaluation.metrics import gain
from bench.execution.claimed import run_claimed
from bench.execution.work import Surroundings
from bench.experiment.forecast import spent
from bench.results.packed import Packed
from bench.results.row_files import read_row
from bench.results.store import Store
from bench.types import BoolArray

NEAR = 1e-4  # relative gap of two scores of one list that rounding may close
LEAST_SECONDS, TIMES = (
    120.0,
    10.0,
)  # a run is given this long, or this many times what the row states


@dataclass(frozen=True)
class Verdict:
    """What running a row again came to.

    Attributes:
        holds: whether the row stands; None if it could not be run.
        why: in a few words.
    """

    holds: bool | None
    why: str


def cheapest(found: Sequence[tuple[Path, Row]], most: int) -> list[tuple[Path, Row]]:
    """The finished rows that are run again: the quickest by what they state, of cells that need no others.

    Args:
        found: rows with their files.
        most: how many.
    """
    alone = [
        (path, row)
        for path, row in found
        if row.status == "done" and not row.cell.needs and not row.cell.contents
    ]
    alone.sort(key=lambda pair: (spent(pair[1]), pair[1].cell.label, pair[1].cell.key))
    return alone[:most]


def run_again(row: Row, scratch: Path, data_root: Path | None = None) -> tuple[Row | None, str]:
    """Run a row's cell in a process of its own, within limits of time.

    Args:
        row: of a cell whose method is this repository's.
        scratch: an empty folder for everything that the run writes.
        data_root: where datasets are.

    Returns:
        The new row, or None and why there is none.
    """
    where = Surroundings(
        store=Store(rows=scratch / "rows", root=scratch / "run"),
        data_root=data_root,
        device="cpu",
        threads=max(int(row.provenance.get("threads") or 1), 1),
    )
    limit = max(LEAST_SECONDS, TIMES * spent(row))
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(row.cell, where))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return None, f"not finished within {limit:.0f} s"
    path = where.store.row_path(row.cell)
    if not path.is_file():
        return None, f"its process ended with {process.exitcode} and left no row"
    new = read_row(path)
    return (new, "") if new.status == "done" else (None, f"{new.status}: {new.reason}")


def _run(cell: Cell, where: Surroundings) -> None:
    run_claimed(cell, where)


def compare(row: Row, packed: Packed, scratch: Path, tolerance: float) -> Verdict:
    """Compare a row with what ``run_again`` left.

    Args:
        row: the row that is checked.
        packed: its positions.
        scratch: the folder of the run.
        tolerance: the most by which the mean of NDCG@10 may have moved.
    """
    store = Store(rows=scratch / "rows", root=scratch / "run")
    new = Packed.load(store.row_path(row.cell).with_suffix(".npz"))
    if not new.asks(packed.user_Q):
        return Verdict(False, "it was examined on other queries than its cell says")
    moved_Q = new.title.position_Q != packed.title.position_Q
    moved = int(moved_Q.sum())
    if not moved:
        return Verdict(True, f"the same {len(new)} positions")
    gap = float(np.mean(gain(new.title, HEADLINE)) - np.mean(gain(packed.title, HEADLINE)))
    told = f"{moved} of {len(new)} positions differ, {HEADLINE} by {gap:+.4f}"
    near_Q = near_ties(store.read_lists(row.cell.key) or {})
    if near_Q is not None and bool(near_Q[moved_Q].all()):
        return Verdict(True, f"{told}; all in lists with near ties (scores within {NEAR:g})")
    if abs(gap) <= tolerance:
        return Verdict(True, f"{told}, within the tolerance of {tolerance:g}")
    return Verdict(False, f"{told}, more than the tolerance of {tolerance:g}")


def near_ties(lists: Mapping[str, Any]) -> BoolArray | None:
    """Whether two neighbours of a list have scores that rounding may turn, bool [Q]; None without scores.

    Args:
        lists: from ``Store.read_lists``.
    """
    if "score_QK" not in lists:
        return None
    score_QK, item_QK = lists["score_QK"].astype(np.float64), lists["item_QK"]
    first_QK, second_QK = score_QK[:, :-1], score_QK[:, 1:]
    with np.errstate(invalid="ignore"):  # places that are empty have no score
        close_QK = first_QK - second_QK <= NEAR * np.maximum(np.abs(first_QK), np.abs(second_QK))
    return np.asarray((close_QK & (item_QK[:, 1:] > 0)).any(1))


def verdicts(
    found: Sequence[tuple[Path, Row]], scratch: Path, data_root: Path | None, tolerance: float
) -> Iterator[tuple[Row, Verdict]]:
    """Run rows again, one after the other, and say what came of each.

    Args:
        found: rows with their files, see ``cheapest``.
        scratch: a folder for the runs.
        data_root: where datasets are.
        tolerance: as in ``compare``.
    """
    for number, (path, row) in enumerate(found):
        place = scratch / str(number)
        new, why = run_again(row, place, data_root)
        if new is None:
            yield row, Verdict(None, why)
        else:
            yield row, compare(row, Packed.load(path.with_suffix(".npz")), place, tolerance)
