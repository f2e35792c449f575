"""``bench why``: how a cell came to its result, or why it has none."""

from __future__ import annotations

import argparse

from bench.cli._cells import CELL, add_places, places
from bench.cli._verb import add_verb

ABOUT = """\
How a cell came to its result, or why it has none: status and reason, what sets its configuration apart, what
a reader has to know of it, where its files are, the end of its log if it failed, and what to do next.

  python -m bench why book/sasrec+ce#0
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "why", "how a cell came to its result, or why it has none", ABOUT)
    parser.add_argument("cell", metavar="CELL", help=CELL)
    add_places(parser, data=False)
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print what is known."""
    from bench.questions.find import find
    from bench.questions.why import why

    store, _ = places(options)
    print("\n".join(why(find(options.cell, store), store)))
    return 0
