"""``bench board``: rebuild every table from the rows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cli._verb import add_verb
from bench.errors import DataError
from bench.results.cache import Cache
from bench.results.places import OWN, PUBLISHED, RESULTS, published_beside, row_folders

ROWS = f"folder of rows (default: {OWN}, then {PUBLISHED})"  # help of the verbs that read both

ABOUT = """\
Rebuild every table (Markdown, CSV, LaTeX, one HTML page) from the rows alone. Needs neither torch nor a GPU,
and equal rows give equal bytes. Published rows (leaderboards/rows) of the same tables stand beside them,
marked "published". Only files that the suite wrote, and that nobody changed since, are replaced or removed; a
folder that is not empty and that the suite did not make is refused.

  python -m bench board                             results/rows -> results/
  python -m bench board --rows my/rows --out my     other rows, other tables
  python -m bench board --examples                  with example users, told in titles
  python -m bench board --plugin my_metric.py       with a column for a metric of your own
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = add_verb(subparsers, "board", "rebuild the tables from the rows", ABOUT)
    parser.add_argument("--rows", default=str(OWN), help="folder of rows (default: %(default)s)")
    parser.add_argument(
        "--out", default=str(RESULTS), help="folder of tables (default: %(default)s)"
    )
    parser.add_argument(
        "--plugin", action="append", default=[], help="a file that registers more metrics"
    )
    parser.add_argument(
        "--examples",
        action="store_true",
        help="take the titles of a few example users from the datasets, which have to be on this machine, "
        "and keep them in examples/ beside the rows for this and later builds of the page",
    )
    parser.set_defaults(func=run)


def existing(folder: str) -> Path:
    """A folder of rows that is there.

    Raises:
        DataError: it is not.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder of rows; `bench run` makes them, --rows names another"
        )
    return path


def existing_folders(named: str | None) -> list[Path]:
    """The folder of rows named, or by default those that are there: one's own, then the published ones.

    Raises:
        DataError: there is none.
    """
    return [existing(str(folder)) for folder in row_folders(named) or [OWN]]


def run(options: argparse.Namespace) -> int:
    """Write the tables and say where they are; 1 if files of rows were left out."""
    from bench.board import write_board
    from bench.cli._left_out import LeftOut
    from bench.registry import load_plugins

    load_plugins(options.plugin)
    rows = existing(options.rows)
    for line in _kept(rows) if options.examples else ():
        print(line)
    left_out = LeftOut()
    paths = write_board(rows, options.out, published_beside(rows), tell=left_out)
    tables = [path for path in paths if path.suffix == ".md" and path.name != "README.md"]
    print(f"{len(tables)} tables, {len(paths)} files; start at {Path(options.out) / 'README.md'}")
    for line in left_alone(Path(options.out)):
        print(line)
    return 1 if left_out else 0


def _kept(rows: Path) -> Iterator[str]:
    """Keep the examples of a folder of rows."""
    from bench.board.examples import keep_examples
    from bench.board.rows import read_folder, tables_of

    yield from keep_examples(rows.parent, tables_of(read_folder(rows), Cache.beside(rows)))


def left_alone(out: Path) -> Iterator[str]:
    """The first file among the tables that the suite did not write, and how many more there are."""
    from bench.board.folder import strangers

    if found := strangers(out):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        yield f"not written by the suite, so left alone: {found[0]}{more}"
