"""``bench test``: does a method, a loss or a decoder keep the contract?"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bench.cli._verb import add_verb
from bench.errors import Unavailable, UnknownName
from bench.registry import decoders, load_plugin, losses, methods, near

if TYPE_CHECKING:
    from bench.conformance import Finding

ABOUT = """\
Fit a registered method on toy data and check the contract: list shapes, distinct items, determinism under
the seed, indifference to what else is asked and in which order, save and load, untouched inputs. A loss or a
decoder is checked on small random inputs: values, gradients, micro-batches; lists, scores, batches.

  python -m bench test sasrec
  python -m bench test msl_ats beam
  python -m bench test my_method --plugin my_method.py
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers, "test", "check that a method, loss or decoder keeps the contract", ABOUT
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="methods, losses, decoders (default: all methods)"
    )
    parser.add_argument("--plugin", action="append", default=[], help="a file that registers more")
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print every finding; 1 if any does not hold."""
    for plugin in options.plugin:
        load_plugin(plugin)
    bad = asked = 0
    for title, examination in _examinations(options.names):
        start = time.monotonic()
        try:
            findings = list(examination())
        except Unavailable as reason:
            print(f"-  {title}: left out: {reason}")
            continue
        faults = [f for f in findings if not f.ok]
        asked, bad = asked + len(findings), bad + len(faults)
        mark = "FAIL" if faults else "ok"
        print(f"{mark:<4} {title} ({len(findings)} questions, {time.monotonic() - start:.1f} s)")
        for finding in faults:
            print(f"     {finding.question}: {finding.seen}")
    print(f"{asked - bad} passed, {bad} failed")
    return 1 if bad else 0


def _examinations(names: Sequence[str]) -> Iterator[tuple[str, Callable[[], Iterable[Finding]]]]:
    """What is to be examined, with a title; a name that is in two registries is asked of both.

    Raises:
        UnknownName: no registry has that name.
    """
    from bench.conformance import examine, examine_component, variants

    for name in names or [n for n in methods if methods.get(n).family != "stage"]:
        if not any(name in registry for registry in (methods, losses, decoders)):
            known = near(name, [*methods, *losses, *decoders])
            raise UnknownName(f"no method, loss or decoder is called {name!r}.{known}")
        if name in methods:
            for loss, decoder in variants(name):
                title = " ".join(filter(None, [name, loss, decoder]))
                yield title, partial(examine, name, loss, decoder)
        for registry in (losses, decoders):
            if name in registry:
                yield f"{registry.kind} {name}", partial(examine_component, registry.get(name))
