"""The command line: one file a verb, each with ``add_parser``; only the verb asked for is imported."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from bench.cli._verb import Parser, refuse
from bench.errors import BenchError
from bench.text.plain import printable
from bench.text.secrets import without_secrets

VERBS = (
    "run", "plan", "calibrate", "list", "options", "show", "why", "lists", "wins", "recommend", "export",
    "board", "claims", "paper", "compare", "doctor", "data", "verify", "test", "migrate", "publish", "submit",
)  # fmt: skip
ABOUT = """\
Traditional, LLM-enhanced and LLM-based recommenders under one protocol.

  python -m bench run --suite paper        run everything this machine can, make the tables
  python -m bench plan --suite paper       see what that would do, and how long it may take
  python -m bench calibrate                learn how fast this machine is, in a minute
  python -m bench list                     methods, losses, decoders, datasets, suites
  python -m bench options bigrec           every key of a method, its losses and decoders
  python -m bench lists book/sasrec+ce#0   what a cell recommended (also: wins, recommend, why, export)
  python -m bench test sasrec              check that a method keeps the contract, in seconds
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb; 0 if all went well, 1 if cells failed, 2 for what the user can mend."""
    if sys.platform == "win32":
        print(
            "bench: it runs on Linux and macOS, which have the locks it needs; on Windows use WSL",
            file=sys.stderr,
        )
        return 2
    parser = argparse.ArgumentParser(
        prog="bench", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(
        dest="verb", metavar="verb", required=True, parser_class=Parser
    )
    words = [*(sys.argv[1:] if words is None else words)]  # list() is a verb's module here
    for verb in words[:1] if words[:1] and words[0] in VERBS else VERBS:
        importlib.import_module(f"bench.cli.{verb}").add_parser(subparsers)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        refuse(subparsers.choices[options.verb], unknown)
    try:
        return int(options.func(options) or 0)
    except BenchError as fault:
        said = printable(without_secrets(str(fault)))
        print(f"bench {options.verb}: {said}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on where it was", file=sys.stderr)
        return 130
