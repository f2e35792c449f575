"""``bench migrate``: give rows the keys that the present declarations give them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli._verb import add_verb

ABOUT = """\
For maintainers. Expands every row again from what it asked and writes it under its present key: after a
configuration gained a key, or to take rows over that another checkout made. Strata are computed anew from the
dataset, so rows get those that were defined after they were made. Numbers are not touched, so it is only for
changes that move no result; drop rows whose numbers moved and run their cells again.

  python -m bench migrate --dry-run              what would become of leaderboards/rows
  python -m bench migrate --rows other/rows      take the rows of another folder over
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = add_verb(subparsers, "migrate", "give rows their present keys", ABOUT)
    parser.add_argument("--rows", help="folder to read rows from (default: those of --out)")
    parser.add_argument("--out", default="leaderboards", help="folder whose rows are written")
    parser.add_argument("--data-root", help="folder with book/, toy/ ... (default: $BENCH_DATA)")
    parser.add_argument("--plugin", action="append", default=[], help="a file that registers more")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would happen, write nothing"
    )
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print what became of the rows, by group; 1 if any could not be had."""
    from tabulate import tabulate

    from bench.api import default_data_root, default_store
    from bench.cli.board import existing
    from bench.experiment.migrate import migrate
    from bench.registry import load_plugins

    load_plugins(options.plugin)
    store = default_store(options.out)
    folder = existing(options.rows) if options.rows else Path(store.rows)
    counts: dict[tuple[str, ...], list[int]] = {}
    lost = 0
    for outcome in migrate(
        folder, store, data_root=default_data_root(options.data_root), dry=options.dry_run
    ):
        if outcome.row is None:
            lost += 1
            print(f"{outcome.path}: {outcome.why}")
            continue
        cell = outcome.row.cell
        group = (cell.dataset, cell.scale, cell.profile, cell.method)
        found = counts.setdefault(group, [0, 0])
        found[0] += 1
        found[1] += cell.key != outcome.before
        if outcome.why:
            print(f"{outcome.path}: {outcome.why}")
    lines = [(*group, *found) for group, found in sorted(counts.items())]
    print(tabulate(lines, headers=["dataset", "scale", "profile", "method", "rows", "other key"]))
    print(f"{sum(found[0] for found in counts.values())} rows, {lost} stay as they are")
    return 1 if lost else 0
