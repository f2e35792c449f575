"""``bench show``: all that is known of one cell, or of several."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.cli._cells import CELL, add_places, places
from bench.cli._verb import add_verb
from bench.errors import UnknownName

if TYPE_CHECKING:
    from bench.questions.find import Found
    from bench.results.figures import Figures
    from bench.results.store import Store

ABOUT = """\
Every row that a text names: how it came about, its metrics by title and by item, and on validation.

  python -m bench show book/sasrec+ce
  python -m bench show book/sasrec+ce#0@1f0c9a --json      the row as it is stored, with its metrics
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "show", "all that is known of a cell", ABOUT)
    parser.add_argument("text", metavar="CELL", help=CELL + "; all that it fits are shown")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, no text")
    add_places(parser, data=False)
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print the rows."""
    from bench.questions.find import matching, rows_of
    from bench.results.figures import figures_beside

    store, _ = places(options)
    found = matching(options.text, list(rows_of(store)))
    if not found:
        raise UnknownName(f"no row contains {options.text!r}; `bench plan` lists the names")
    for number, one in enumerate(found):
        figures = figures_beside(one.path)
        if options.json:
            metrics = _metrics(figures) if figures else {}
            print(json.dumps({**one.row.as_dict(), "metrics": metrics}, sort_keys=True))
            continue
        print("\n" * (number > 0) + "\n".join(_lines(one, figures, store)))
    return 0


def _lines(found: Found, figures: Figures | None, store: Store) -> Iterator[str]:
    from bench.questions.why import why

    yield from why(found, store)
    if figures is None:
        return
    counts = ", ".join(f"{part} {counts.n:,}" for part, counts in figures.counts.items())
    yield f"  test rows  {counts}"
    metrics = _metrics(figures)
    names = dict.fromkeys(name for part in metrics.values() for name in part)
    table = [[name, *(part.get(name) for part in metrics.values())] for name in names]
    text = tabulate(table, ["", *metrics], tablefmt="plain", floatfmt=".4f")
    yield from (f"  {line}" for line in text.splitlines())


def _metrics(figures: Figures) -> dict[str, dict[str, float]]:
    """Every metric by part: under either identity, and on validation."""
    from bench.evaluation.metrics import list_names, position_names
    from bench.results.figures import ITEM, TITLE, VALID

    found: dict[str, dict[str, float]] = {}
    for part in (TITLE, ITEM, VALID):
        names = [*position_names(), *(list_names() if part == TITLE else [])]
        values = {name: figures.mean(name, part) for name in names}
        found[part] = {name: value for name, value in values.items() if value is not None}
    return {part: values for part, values in found.items() if values}
