"""``bench verify``: do the rows say what their positions say?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.cell import Row
    from bench.results.packed import Packed

TOLERANCE = 1e-9
ABOUT = """\
Recompute every metric and stratum of every row from the packed target positions beside it, and hold the row
against them. A changed test score in a row, or a changed byte in the positions, is reported; validation
scores, cost and facts have no second source and are taken on trust. No torch, no GPU.

  python -m bench verify                      all rows under leaderboards/rows
  python -m bench verify --rows received/rows  rows that somebody sent
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "verify",
        help="recompute the rows from their positions",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rows", default="leaderboards/rows", help="folder of rows (default: %(default)s)"
    )
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print what does not agree; 1 if anything does not."""
    from bench.board.rows import read_folder
    from bench.cli.board import existing

    found = read_folder(existing(options.rows))
    wrong = 0
    for path, row in found:
        faults = check(path, row)
        wrong += bool(faults)
        for fault in faults:
            print(f"{path}: {fault}")
    done = sum(row.status == "done" for _, row in found)
    print(f"{len(found)} rows, {done} with numbers; {wrong} do not agree with their positions")
    return 1 if wrong else 0


def check(path: Path, row: Row) -> list[str]:
    """What one row says differently from the positions beside it, one sentence each."""
    import json

    from bench.errors import ArtefactError
    from bench.results.packed import Packed

    stored = json.loads(path.read_text(encoding="utf-8")).get("key", row.cell.key)
    faults = (
        [] if stored == row.cell.key else [f"key {stored} is not that of its cell, {row.cell.key}"]
    )
    positions = path.with_suffix(".npz")
    if row.status != "done":
        return (
            [*faults, f"status {row.status}, yet there are positions"]
            if positions.exists()
            else faults
        )
    try:
        packed = Packed.load(positions)
    except ArtefactError as fault:
        return [*faults, str(fault)]
    if row.n != len(packed):
        faults.append(f"n is {row.n}, the positions are of {len(packed)} queries")
    return faults + _numbers(row, packed)


def _numbers(row: Row, packed: Packed) -> list[str]:
    from bench.evaluation.metrics import means
    from bench.evaluation.strata import by_stratum

    pairs: dict[str, tuple[Any, Any]] = {
        "metrics": (row.metrics, means(packed.title)),
        "metrics_by_item": (row.metrics_by_item, means(packed.item)),
    }
    strata = by_stratum(packed.title, packed.masks)
    pairs |= {f"strata {name}": (row.strata.get(name, {}), strata[name]) for name in strata}
    return [
        f"{where} {name} is {said.get(name)}, the positions give {value}"
        for where, (said, counted) in pairs.items()
        for name, value in counted.items()
        if said.get(name) is None or not abs(said[name] - value) <= TOLERANCE
    ]
