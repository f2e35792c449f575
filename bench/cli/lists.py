"""``bench lists``: what a cell recommended, row by row."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.cli._cells import CELL, add_answers, add_places, places, titles, write_answers
from bench.cli._verb import add_verb

ABOUT = """\
The lists of a cell on its test rows, with titles and the ids that the data came with.

  python -m bench lists book/sasrec+ce#0                       five test rows, to read
  python -m bench lists book/sasrec+ce#0 --format jsonl --to lists.jsonl
  python -m bench lists book/sasrec+ce#0 --user 17 --user 23
  python -m bench lists book/sasrec+ce#0 --format csv --top 5 > lists.csv

All test rows are written as JSON lines or CSV (user, row, rank, item, title, score, target). Lists come from
the run store with items and scores; of a cell that was run elsewhere only the first ten titles are kept, each
by the first item that has it.
"""
READ = 5  # test rows that people are shown


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "lists", "what a cell recommended, row by row", ABOUT)
    parser.add_argument("cell", metavar="CELL", help=CELL)
    parser.add_argument("--top", type=int, default=10, help="entries of a list (default: 10)")
    parser.add_argument(
        "--user", action="append", default=[], help="only this user; again for more"
    )
    parser.add_argument("--rows", type=int, help=f"at most so many test rows (text: {READ})")
    add_answers(parser)
    add_places(parser)
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Write the lists."""
    from bench.questions.exam import answered, chosen
    from bench.questions.find import find

    store, root = places(options)
    found = find(options.cell, store)
    exam = answered(found, store, root)
    readable = options.format == "text" and not options.user
    limit = options.rows if options.rows is not None else READ if readable else None
    rows = list(chosen(exam, options.user, limit))
    records = (exam.record(row, options.top) for row in rows)
    head = f"{found.cell.name}: {len(rows)} of {len(exam):,} test rows"
    write_answers(records, _text(head, records), options)
    return 0


def _text(head: str, records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield head
    for record in records:
        yield from _row(record)


def _row(record: Mapping[str, Any]) -> Iterator[str]:
    rank = f"rank {record['target_rank']}" if record["target_rank"] else "not in the list"
    yield f"\nrow {record['row']}, user {record['user']}"
    yield f"  history  {titles(record['history'][-5:], 5)}"
    yield f"  target   {titles([record['target']], 1)}  ({rank})"
    for entry in record["list"]:
        mark = "*" if entry["title"] == record["target"]["title"] else " "
        yield f"  {mark}{entry['rank']:>2}  {entry['title'] or entry['item']}  [{entry['item']}]"
