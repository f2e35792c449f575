"""``bench board``: rebuild every table from the rows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.errors import DataError

ABOUT = """\
Rebuild every table (Markdown, CSV, LaTeX, one HTML page) from the rows alone. Needs neither torch nor a GPU,
and equal rows give equal bytes.

  python -m bench board                             leaderboards/rows -> leaderboards/
  python -m bench board --rows my/rows --out my     other rows, other tables
  python -m bench board --plugin my_metric.py       with a column for a metric of your own
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "board",
        help="rebuild the tables from the rows",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rows", default="leaderboards/rows", help="folder of rows (default: %(default)s)"
    )
    parser.add_argument(
        "--out", default="leaderboards", help="folder of tables (default: %(default)s)"
    )
    parser.add_argument(
        "--plugin", action="append", default=[], help="a file that registers more metrics"
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


def run(options: argparse.Namespace) -> int:
    """Write the tables and say where they are."""
    from bench.board import write_board
    from bench.registry import load_plugins

    load_plugins(options.plugin)
    paths = write_board(existing(options.rows), options.out)
    tables = [path for path in paths if path.suffix == ".md" and path.name != "README.md"]
    print(f"{len(tables)} tables, {len(paths)} files; start at {Path(options.out) / 'README.md'}")
    return 0
