"""``bench claims``: every published number against ours."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.board import ROWS
from bench.errors import DataError
from bench.results.places import PUBLISHED, row_folders

if TYPE_CHECKING:
    from bench.cell import Cell
    from bench.claims import Ours, Verdict

ABOUT = """\
The ledger of claims: every published number (Tables 3, 5 and 6 of the MSL paper and its authors' later
update) with its interval, ours with its interval, and a verdict:

  reproduced     within 5 % of the published number and within noise
  within noise   further off, but no further than sampling of users explains
  lower, higher  further off than that
  not run        no row of ours

In what our protocol departs from the paper's (scale, backbone, profile, rows, recipe ...) is said beside it.
Models of item ids are compared by id and language models by title, as the paper does.

  python -m bench claims                              the numbers that were run
  python -m bench claims --dataset book --all         all of Book, those not run too
  python -m bench claims --metric ndcg@10 --format csv
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "claims",
        help="published numbers against ours",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", help=ROWS)
    parser.add_argument("--dataset", help="only this one: toy, book, clothing or office")
    parser.add_argument("--metric", help="only this one, e.g. ndcg@10")
    parser.add_argument("--all", action="store_true", help="also claims that were not run")
    parser.add_argument("--format", choices=("md", "csv", "tex"), default="md", help="default: md")
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print the ledger, the agreement of ranks and the digit check."""
    from bench.board.render import to_csv, to_latex, to_markdown
    from bench.claims import agreement, impossible, ledger

    verdicts = ledger(_ours(row_folders(options.rows)))
    chosen = [
        verdict
        for verdict in verdicts
        if options.dataset in (None, verdict.claim.dataset)
        and options.metric in (None, verdict.claim.metric)
    ]
    if not chosen:
        raise DataError(
            f"no claim about dataset {options.dataset!r}, metric {options.metric!r}; "
            "datasets: toy, book, clothing, office; metrics: ndcg@5, ndcg@10, hit@5, hit@10"
        )
    shown = [v for v in chosen if options.all or v.ours is not None]
    write = {"md": to_markdown, "csv": to_csv, "tex": to_latex}[options.format]
    print(write(table(shown)), end="")
    if options.format == "md":
        count = Counter(verdict.word for verdict in chosen)
        print("\n" + ", ".join(f"{number} {word}" for word, number in count.most_common()) + ".")
        for line in agreement(verdicts):
            if line.methods > 1:
                where, effects = f"{line.dataset}, {line.board}", _effects(line.effect)
                print(f"{where}: Kendall {line.tau:.2f} over {line.methods} cells{effects}")
        for claim in impossible():
            print(
                f"digit check: {' '.join(filter(None, claim.where))} {claim.metric} = {claim.value:.4f} "
                f"is no fraction of {claim.n} test rows"
            )
    return 0


def _effects(effect: Mapping[str, tuple[float, float]]) -> str:
    parts = (f"{m} MSL/LML {ours:.2f} (paper {theirs:.2f})" for m, (ours, theirs) in effect.items())
    text = ", ".join(parts)
    return f"; {text}" if text else ""


def _ours(folders: Sequence[Path]) -> Iterable[tuple[Cell, Mapping[str, Ours]]]:
    from bench.board.leaderboard import ours_of
    from bench.board.rows import read_folders, tables_of
    from bench.claims import TEST_ROWS
    from bench.results.cache import Cache

    folders = [folder for folder in folders if folder.is_dir()]
    if not folders:
        return []
    found_rows = read_folders(folders)
    pairs = [(path, row) for path, row in found_rows if row.cell.dataset in TEST_ROWS]
    tables = tables_of(pairs, Cache.beside(folders[0]), PUBLISHED)
    found: list[tuple[Cell, Mapping[str, Ours]]] = []
    for entries in tables.values():
        done = [entry for entry in entries if entry.figures]
        if done:
            found += zip((entry.cell for entry in done), ours_of(done), strict=True)
    return found


def table(verdicts: Sequence[Verdict]) -> Any:
    """The ledger as a table."""
    from bench.board.render import Column, Table
    from bench.claims import interval

    heads = (
        "Table",
        "Dataset",
        "Method",
        "Loss",
        "Metric",
        "Published",
        "Ours",
        "Our cell",
        "Verdict",
    )
    columns = tuple(Column(head.lower(), head) for head in heads)
    lines = []
    for verdict in verdicts:
        claim, ours = verdict.claim, verdict.ours
        low, high = interval(claim)
        cells = (
            claim.table,
            claim.dataset,
            claim.method,
            claim.loss,
            claim.metric,
            f"{claim.value:.4f} [{low:.4f}, {high:.4f}]",
            f"{ours.mean:.4f} [{max(ours.low, 0):.4f}, {ours.high:.4f}]" if ours else None,
            f"{ours.cell.label} ({ours.cell.scale}, {ours.cell.profile}) {ours.cell.key}"
            if ours
            else None,
            verdict.text,
        )
        lines.append(dict(zip((column.key for column in columns), cells, strict=True)))
    return Table("Claims", columns, (("", tuple(lines)),))
