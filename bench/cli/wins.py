"""``bench wins A B``: the test rows on which A beats B."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from bench.cell import HEADLINE
from bench.cli._cells import CELL, add_answers, add_places, places, titles, write_answers
from bench.cli._verb import add_verb

ABOUT = """\
The test rows on which one cell beats another, the largest gap first, with histories and titles.

  python -m bench wins book/bigrec+msl_ats#0 book/bigrec+lml#0
  python -m bench wins book/markov#0 book/sasrec+ce#0 --metric hit@5 --format jsonl --to wins.jsonl

One seed against one; whether a difference is more than chance is for `bench compare`.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "wins", "the test rows on which one cell beats another", ABOUT)
    parser.add_argument("a", metavar="A", help=CELL)
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument(
        "--metric", default=HEADLINE, help="a metric of positions (default: %(default)s)"
    )
    parser.add_argument("--rows", type=int, default=10, help="at most so many (default: 10)")
    add_answers(parser)
    add_places(parser)
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Write the rows."""
    from bench.evaluation.metrics import weights
    from bench.questions.exam import answered
    from bench.questions.find import find
    from bench.questions.wins import wins

    store, root = places(options)
    weights(options.metric)  # a name that is not known is told before data are read
    a, b = (find(text, store) for text in (options.a, options.b))
    of_a, of_b = (answered(one, store, root) for one in (a, b))
    found = wins(of_a, of_b, options.metric)
    records = list(found.records(options.rows))
    head = (
        f"{options.metric} over {len(of_a):,} test rows: A ahead on {found.ahead}, B on {found.behind}, "
        f"level on {found.level}"
    )
    names = f"  A {a.cell.name}\n  B {b.cell.name}"
    write_answers(records, [head, names, *_text(records)], options)
    return 0


def _text(records: list[dict[str, Any]]) -> Iterator[str]:
    for record in records:
        yield f"\nrow {record['row']}, user {record['user']}, gap {record['gap']:+.3f}"
        yield f"  history  {titles(record['history'][-5:], 5)}"
        yield f"  target   {titles([record['target']], 1)}"
        for side, rank, entries in (
            ("A", record["target_rank"], record["list"]),
            ("B", record["target_rank_b"], record["list_b"]),
        ):
            yield f"  {side} {'rank ' + str(rank) if rank else 'no hit':<8} {titles(entries, 3)}"
