"""``bench test``: does a method keep the contract?"""

from __future__ import annotations

import argparse
import time

from bench.errors import Unavailable
from bench.registry import load_plugin, methods

ABOUT = """\
Fit a registered method on toy data and check the contract: list shapes, distinct items, determinism under
the seed, indifference to the order of queries, save and load, untouched inputs.

  python -m bench test sasrec
  python -m bench test my_method --plugin my_method.py
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "test",
        help="check that a method keeps the contract",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="methods (default: all)")
    parser.add_argument("--plugin", action="append", default=[], help="a file that registers more")
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print every finding; 1 if any does not hold."""
    from bench.conformance import examine, variants

    for plugin in options.plugin:
        load_plugin(plugin)
    chosen = options.names or [n for n in methods if methods.get(n).family != "stage"]
    bad = asked = 0
    for name in chosen:
        for loss, decoder in variants(name):
            title = " ".join(filter(None, [name, loss, decoder]))
            start = time.monotonic()
            try:
                findings = list(examine(name, loss, decoder))
            except Unavailable as reason:
                print(f"-  {title}: left out: {reason}")
                continue
            faults = [f for f in findings if not f.ok]
            asked, bad = asked + len(findings), bad + len(faults)
            mark = "FAIL" if faults else "ok"
            print(
                f"{mark:<4} {title} ({len(findings)} questions, {time.monotonic() - start:.1f} s)"
            )
            for finding in faults:
                print(f"     {finding.question}: {finding.seen}")
    print(f"{asked - bad} passed, {bad} failed")
    return 1 if bad else 0
