"""``bench publish``: put finished rows on the project's own board."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli._verb import add_verb
from bench.results.places import BOARD, OWN, PUBLISHED

if TYPE_CHECKING:
    from bench.cell import Cell, Row

ABOUT = """\
For maintainers. Copies finished rows into leaderboards/rows, rebuilds the tables there and fills the excerpt
in the project's README. A row of uncommitted code, of a plugin, or one that `bench verify` faults is refused
and named; failed and left-out cells stay where they are. Run it where README.md and leaderboards/ are.

  python -m bench publish                        the finished rows of results/rows
  python -m bench publish --from received/rows   those of another folder
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = add_verb(subparsers, "publish", "put finished rows on the project's own board", ABOUT)
    parser.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        help=f"folder of rows (default: {OWN}; without it the tables are rebuilt from the rows there are)",
    )
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Copy the rows and rebuild the board; 1 if any row was refused."""
    from bench.board import write_board
    from bench.board.folder import claim
    from bench.cli._left_out import LeftOut
    from bench.cli.board import existing
    from bench.results.row_files import read_folder

    given = options.source is not None or OWN.is_dir()
    left_out = LeftOut()
    found = read_folder(existing(options.source or str(OWN)), left_out) if given else []
    done = [(path, row) for path, row in found if row.status == "done"]
    claim(BOARD)
    refused = published = 0
    for path, row in done:
        if reason := next(faults(path, row), None):
            refused += 1
            print(f"refused: {path}: {reason}")
        else:
            published += _publish(path, row)
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    write_board(PUBLISHED, BOARD, readme=Path("README.md"))
    same = len(done) - refused - published
    print(
        f"{published} rows published, {same} were there, {refused} refused, {len(found) - len(done)} without "
        f"numbers; tables: {BOARD / 'README.md'}"
    )
    return 1 if refused or left_out else 0


def faults(path: Path, row: Row) -> Iterator[str]:
    """Why a row cannot be published."""
    from bench.cli.verify import check

    made = row.provenance
    if made.get("dirty") or made.get("commit") in {None, "", "unknown"}:
        yield "made by uncommitted code; commit it and run the cell again with --reuse never"
    yield from unknown_names(row.cell)
    yield from check(path, row)


def unknown_names(cell: Cell) -> Iterator[str]:
    """The names of a cell that are not defined in this repository."""
    from bench.experiment.suite import scales
    from bench.registry import datasets, decoders, losses, methods

    for registry, name in (
        (datasets, cell.dataset),
        (methods, cell.method),
        (losses, cell.loss),
        (decoders, cell.decoder),
    ):
        origin = registry.index.get(name) if name else None
        if registry is losses and origin is None and name in _untrained(cell.method):
            continue
        if name and (origin is None or origin.path is None):
            yield f"{registry.kind} {name!r} is not defined in this repository; add its file first"
    if found := sorted({"method", "loss", "decoder"} & cell.contents.keys()):
        yield f"its {found[0]} is a plugin's; add its file to the repository and run the cell again"
    if cell.scale not in scales():
        yield f"scale {cell.scale!r} is unknown; known: {', '.join(scales())}"


def _untrained(method: str) -> tuple[str, ...]:
    """Names on the axis of losses that stand for no training of a method of this repository."""
    from bench.registry import methods

    origin = methods.index.get(method)
    with contextlib.suppress(ImportError):  # what the method needs is not here
        return tuple(methods.get(method).untrained) if origin and origin.path else ()
    return ()


def _publish(path: Path, row: Row) -> bool:
    """Copy a row, its positions first; False if the very row is there."""
    from bench.disk.storage import write_whole
    from bench.results.store import ABSENT, Store

    board = Store(rows=PUBLISHED, root=PUBLISHED)
    goal = board.row_path(row.cell)
    content = {
        goal.with_suffix(end): path.with_suffix(end).read_bytes() for end in (".npz", ".json")
    }
    if all(file.is_file() and file.read_bytes() == data for file, data in content.items()):
        return False
    for file, data in content.items():
        write_whole(file, partial(_fill, data=data))
    # a real answer replaces the note that there is none
    for other in board.namesakes(row.cell, f"-{ABSENT}"):
        if not other.cell.data_version:
            board.row_path(other.cell).unlink(missing_ok=True)
    return True


def _fill(part: Path, data: bytes) -> None:
    part.write_bytes(data)
