"""``bench show``: all that is known of one cell."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.errors import UnknownName
from bench.evaluation.metrics import list_names, position_names
from bench.results.figures import ITEM, TITLE, VALID, figures_beside
from bench.results.places import RESULTS
from bench.results.row_files import rows_under


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "show",
        help="all that is known of a cell",
        description="Print every row whose label or key contains the text, and where its files are.\n\n"
        "  python -m bench show book/sasrec",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", help="part of a label (book/sasrec+ce#0) or of a key")
    parser.add_argument(
        "--out", default=str(RESULTS), help="folder of rows and tables (default: %(default)s)"
    )
    parser.add_argument("--rows", help="only this folder of rows (default: own and published ones)")
    parser.add_argument("--store", help="run store (default: $BENCH_STORE or .bench)")
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print the rows as JSON."""
    from bench.api import default_store

    store = default_store(options.out, options.store)
    found = 0
    folders = [Path(options.rows)] if options.rows else [store.rows, store.published]
    for path, row in (pair for folder in folders if folder for pair in rows_under(folder)):
        if options.text in row.cell.label or options.text in row.cell.key:
            found += 1
            print(f"{row.cell.label}  ({row.cell.scale}, {row.cell.profile})  {path}")
            print(json.dumps(row.as_dict(), indent=1, sort_keys=True))
            if figures := figures_beside(path):
                told = {part: counts.n for part, counts in figures.counts.items()}
                print(f"queries: {json.dumps(told, sort_keys=True)}")
                for part in (TITLE, ITEM, VALID):
                    names = [*position_names(), *(list_names() if part == TITLE else [])]
                    numbers = {name: figures.mean(name, part) for name in names}
                    print(f"{part}: {json.dumps(numbers)}")
            folder = store.folder(row.cell.key)
            if folder.exists():
                print(f"files: {folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")
    if not found:
        raise UnknownName(f"no row contains {options.text!r}; `bench plan` lists the labels")
    return 0
