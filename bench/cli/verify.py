"""``bench verify``: are the rows and the packed files beside them whole, and do they agree?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.board import ROWS, existing_folders
from bench.results.places import RESULTS

if TYPE_CHECKING:
    from bench.cell import Row
    from bench.evaluation.lists import Lists
    from bench.evaluation.positions import Positions
    from bench.results.packed import Packed

ABOUT = """\
Check every row and the packed file beside it: the key against what the cell declares, the seal against every
byte, the shapes, the strata (each query is in one of each partition), the number of test rows, and the
positions against the lists and the targets where both are kept. Every metric is computed from these files, so
no number of a table has another source; cost and facts have none and are taken on trust. No torch, no GPU.

  python -m bench verify                      own and published rows
  python -m bench verify --rows received/rows  rows that somebody sent
  python -m bench verify --store              every file of the run store, of results/ and of the cache
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "verify",
        help="check rows and the packed files beside them",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", help=ROWS)
    parser.add_argument(
        "--store",
        nargs="?",
        const="",
        metavar="DIR",
        help="read everything that runs left here: fitted methods, checkpoints, rows, caches (default: "
        "$BENCH_STORE, else .bench)",
    )
    parser.add_argument(
        "--out", default=str(RESULTS), help="with --store: the folder of its tables"
    )
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print what does not agree; 1 if anything does not."""
    from bench.board.rows import read_folder
    from bench.cli._verify_store import verify_store

    if options.store is not None:
        return verify_store(options.out, options.store)
    found = [pair for folder in existing_folders(options.rows) for pair in read_folder(folder)]
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
    """What is wrong with one row or the file beside it, one sentence each.

    Args:
        path: the row's JSON file.
        row: what was read from it.
    """
    import json

    from bench.errors import ArtefactError
    from bench.results.packed import Packed
    from bench.results.row_damage import check_pair

    stored = json.loads(path.read_text(encoding="utf-8")).get("key", row.cell.key)
    faults = (
        [] if stored == row.cell.key else [f"key {stored} is not that of its cell, {row.cell.key}"]
    )
    positions = path.with_suffix(".npz")
    if row.status != "done":
        there = [f"status {row.status}, yet there are positions"] if positions.exists() else []
        return faults + there
    try:
        packed = Packed.load(positions)
        check_pair(positions, row.provenance)
    except ArtefactError as fault:
        return [*faults, str(fault)]
    if row.n != len(packed):
        faults.append(f"n is {row.n}, the positions are of {len(packed)} queries")
    return [*faults, *_shapes(packed), *_partitions(packed), *_lists(packed)]


def _shapes(packed: Packed) -> Iterator[str]:
    n = len(packed)
    sizes = {"users": packed.user_Q, "positions by id": packed.item.position_Q}
    if packed.target_Q is not None:
        sizes["targets"] = packed.target_Q
    if packed.lists is not None:
        sizes["lists"] = packed.lists.title_QK
    for what, array in sizes.items():
        if len(array) != n:
            yield f"{what} of {len(array)} queries, the positions are of {n}"
    exams = {"title": packed.title, "item": packed.item, "valid": packed.valid}
    for name, positions in exams.items():
        if positions is not None:
            yield from _ranks(name, positions)


def _ranks(name: str, positions: Positions) -> Iterator[str]:
    from bench.cell import K
    from bench.evaluation.positions import MISSING

    position_Q = positions.position_Q
    for rank in sorted({*position_Q.tolist()} - {*range(K), MISSING}):
        yield f"positions of {name} hold the rank {rank}; known: 0 to {K - 1}, {MISSING} for none"
    if positions.chance_Q is not None:
        found_Q = position_Q != MISSING
        if (found_Q & (positions.chance_Q > 0)).any():
            yield f"positions of {name}: a target that is in its list is said to be drawn by chance too"


def _partitions(packed: Packed) -> Iterator[str]:
    import numpy as np

    from bench.evaluation.strata import PARTITIONS

    for partition, names in PARTITIONS.items():
        masks = [packed.masks[name] for name in names if name in packed.masks]
        if masks and not (np.stack(masks).sum(0) == 1).all():
            yield f"strata {', '.join(names)}: not every query is in one of this partition ({partition})"


def _lists(packed: Packed) -> Iterator[str]:
    """Positions against lists, lists against what is said of their titles."""
    lists, target_Q = packed.lists, packed.target_Q
    if lists is None or len(lists) != len(packed):
        return
    if len(lists.title_D) != len(lists.count_D):
        yield f"lists name {len(lists.title_D)} titles, training counts are of {len(lists.count_D)}"
    if target_Q is None or len(target_Q) != len(packed):
        return
    expected_Q = target_ranks(lists, target_Q)
    wrong = (expected_Q != packed.title.position_Q).nonzero()[0]
    if len(wrong):
        q = int(wrong[0])
        yield (
            f"positions of {len(wrong)} queries are not those of their lists; first query {q}: the position "
            f"is {packed.title.position_Q[q]}, its list gives {expected_Q[q]}"
        )


def target_ranks(lists: Lists, target_Q: Any) -> Any:
    """The rank from 0 of each target title in its list, 255 where it is not in it, int [Q].

    Args:
        lists: of titles.
        target_Q: title class of each target.
    """
    import numpy as np

    from bench.evaluation.positions import MISSING

    found_QK = lists.title_QK == target_Q[:, None]
    return np.where(found_QK.any(1), found_QK.argmax(1), MISSING)
