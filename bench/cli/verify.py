"""``bench verify``: are the rows and the packed files beside them whole, and do they agree?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli._verb import add_verb
from bench.cli.board import ROWS, existing_folders
from bench.results.places import RESULTS
from bench.text.plain import one_line

if TYPE_CHECKING:
    from bench.cell import Row
    from bench.evaluation.lists import Lists
    from bench.results.packed import Packed

ABOUT = """\
Check every row and the packed file beside it: the key against what the cell declares, the seal against every
byte, the shapes, the strata (each query is in one of each partition), the number of test rows, and the
positions against the lists and the targets where both are kept. Every metric is computed from these files, so
no number of a table has another source; cost and facts have none and are taken on trust. No torch, no GPU.

  python -m bench verify                      own and published rows
  python -m bench verify --rows received/rows  rows that somebody sent
  python -m bench verify --store              every file of the run store, of results/ and of the cache
  python -m bench verify --rerun 3             and run the three cheapest cells again

--rerun takes finished cells that need no other cell and whose method, loss, decoder and dataset are this
repository's, runs each in a process of its own on the CPU, and compares the positions. The same positions
hold. Others hold if every list that moved has neighbours whose scores are within 0.0001 of each other (near
ties: the order of sums differs between machines), or if the mean of NDCG@10 moved by no more than --tolerance
(a fit on other libraries or threads takes another course). What cannot be run here is said and is no fault.
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = add_verb(subparsers, "verify", "check rows and the packed files beside them", ABOUT)
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
    parser.add_argument("--rerun", type=int, default=0, metavar="N", help="cells to run again")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.002,
        help="of NDCG@10, for cells that run again (default: %(default)s)",
    )
    parser.add_argument("--data-root", help="where datasets are (default: $BENCH_DATA)")
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print what does not agree; 1 if anything does not."""
    from bench.cli._left_out import LeftOut
    from bench.cli._verify_store import verify_store
    from bench.results.row_files import read_folder

    if options.store is not None:
        return verify_store(options.out, options.store)
    left_out = LeftOut()
    found = [
        pair for folder in existing_folders(options.rows) for pair in read_folder(folder, left_out)
    ]
    wrong, sound = 0, []
    for path, row in found:
        faults = check(path, row)
        wrong += bool(faults)
        sound += [] if faults else [(path, row)]
        for fault in faults:
            print(f"{one_line(str(path))}: {fault}")
    done = sum(row.status == "done" for _, row in found)
    unread = f"; {len(left_out)} files left out" if left_out else ""
    print(
        f"{len(found)} rows, {done} with numbers; {wrong} do not agree with their positions{unread}"
    )
    differ = _rerun(sound, options) if options.rerun else 0
    return 1 if wrong or left_out or differ else 0


def _rerun(sound: list[tuple[Path, Row]], options: argparse.Namespace) -> int:
    """Run the cheapest cells again and print what came; how many do not hold."""
    import tempfile

    from bench.cli.publish import unknown_names
    from bench.execution.again import cheapest, verdicts
    from bench.results.places import default_data_root

    ours = [(path, row) for path, row in sound if not list(unknown_names(row.cell))]
    chosen = cheapest(ours, options.rerun)
    words = {True: "holds", False: "differs", None: "not run"}
    count = dict.fromkeys(words, 0)
    with tempfile.TemporaryDirectory() as scratch:
        root = default_data_root(options.data_root)
        for row, verdict in verdicts(chosen, Path(scratch), root, options.tolerance):
            count[verdict.holds] += 1
            label = f"{row.cell.label} ({row.cell.key})"
            print(f"{words[verdict.holds]}: {label}: {verdict.why}", flush=True)
    print(f"{len(chosen)} run again: " + ", ".join(f"{count[k]} {w}" for k, w in words.items()))
    return count[False]


def check(path: Path, row: Row) -> list[str]:
    """What is wrong with one row or the file beside it, one sentence each.

    Args:
        path: the row's JSON file.
        row: what was read from it.
    """
    from bench.errors import ArtefactError
    from bench.results.packed import Packed
    from bench.results.row_damage import check_pair
    from bench.results.row_files import stored_key

    stored = stored_key(path) or row.cell.key
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
    return [*faults, *_chances(packed), *_partitions(packed), *_lists(packed)]


def _chances(packed: Packed) -> Iterator[str]:
    from bench.evaluation.positions import MISSING

    exams = {"title": packed.title, "item": packed.item, "valid": packed.valid}
    for name, positions in exams.items():
        if positions is None or positions.chance_Q is None:
            continue
        if ((positions.position_Q != MISSING) & (positions.chance_Q > 0)).any():
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
    if lists is None or target_Q is None:
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
