"""``bench recommend``: continue histories with a stored model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cli._cells import CELL, add_answers, add_places, places, titles, write_answers
from bench.cli._verb import add_verb
from bench.errors import ConfigError

ABOUT = """\
Recommendations of a stored model for histories of your own, in the ids that the data came with.

  python -m bench recommend ml_100k/sasrec+ce#0 --history "Toy Story | GoldenEye"
  python -m bench recommend shop/bigrec+msl_ats#0 --history "B00AMNCYNQ | B0007XYZ12" --top 5
  python -m bench recommend shop/sasrec+ce#0 --file users.jsonl --format csv --to recommendations.csv

Items are named by id or title, oldest first, with | between them; --history again for more users. A file
holds JSON lines {"user": ..., "history": [...]} or a CSV table of user,item in the order of events.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "recommend", "continue histories with a stored model", ABOUT)
    parser.add_argument("cell", metavar="CELL", help=CELL)
    parser.add_argument("--history", action="append", default=[], help="items, oldest first")
    parser.add_argument("--file", type=Path, help="histories of many users (.jsonl or .csv)")
    parser.add_argument("--top", type=int, default=10, help="length of a list (default: 10)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add_answers(parser)
    add_places(parser)
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Write the recommendations."""
    from bench.questions.find import find
    from bench.questions.recommend import SEPARATOR, Asked, read_histories, recommend

    asked = [
        Asked(str(number), tuple(map(str.strip, text.split(SEPARATOR))))
        for number, text in enumerate(options.history, 1)
    ]
    asked += read_histories(options.file) if options.file else []
    if not asked:
        raise ConfigError('no history; give --history "one title | another", or --file FILE')
    if options.top < 1:
        raise ConfigError(f"--top is {options.top}; it must be 1 or more")
    store, root = places(options)
    cell = find(options.cell, store).cell
    found = recommend(cell, asked, store, root, k=options.top, device=options.device)
    write_answers(found, _text(found), options)
    return 0


def _text(records: list[dict[str, Any]]) -> Iterator[str]:
    for record in records:
        yield f"user {record['user']}: {titles(record['history'][-5:], 5)}"
        for entry in record["list"]:
            yield f"  {entry['rank']:>2}  {entry['title'] or entry['item']}  [{entry['item']}]"
