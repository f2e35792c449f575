"""``bench paper``: the paper's tables and figures, our numbers beside the published ones."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.cli._verb import add_verb
from bench.cli.board import ROWS, existing
from bench.results.places import RESULTS, row_folders

ABOUT = """\
Make Tables 3 to 7 and Figures 3 to 8 of the MSL paper from stored rows, each with our numbers beside the
published ones; tables as Markdown and CSV, figures as SVG with their points as CSV. What has no row says "not
run" and the command that would make it. Two pieces are not the paper's: when the adaptive temperature adapts,
and its course by step. Needs neither torch nor a GPU, except with --tries.

  python -m bench paper                            own and published rows -> results/paper
  python -m bench paper --tries                    measure Tables 4 and 7 anew (needs the data, and Llama 3's
                                                   tokenizer: pip install --no-deps llama-models)
  python -m bench run --suite temperature --scale small --microscope
                                                   rows for Figures 3 to 8
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = add_verb(subparsers, "paper", "the paper's tables and figures", ABOUT)
    parser.add_argument("--rows", help=ROWS)
    parser.add_argument(
        "--out",
        default=str(RESULTS / "paper"),
        help="folder of the tables and figures, empty or made by the suite (default: %(default)s)",
    )
    parser.add_argument(
        "--tries", action="store_true", help="measure the datasets and their tries anew"
    )
    parser.add_argument("--data-root", help="folder with book/, toy/ ... (default: $BENCH_DATA)")
    parser.add_argument(
        "--plugin", action="append", default=[], help="a file that registers what rows name"
    )
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Write everything and say what was run."""
    from bench.board.folder import check_ours
    from bench.paper import write_paper
    from bench.registry import load_plugins

    load_plugins(options.plugin)
    out = Path(options.out)
    check_ours(out)
    folders = [existing(str(folder)) for folder in row_folders(options.rows)]
    tries = measured(options.data_root) if options.tries else None
    pieces = write_paper(folders, out, tries)
    for piece in pieces:
        made = f"  {piece.command}" if piece.command else ""
        print(f"{piece.name:12} {piece.state:>10}{made}")
    print(f"start at {out / 'README.md'}")
    return 0


def measured(data_root: str | None) -> Mapping[str, Mapping[str, Any]]:
    """Statistics of the datasets that are there, by name.

    Args:
        data_root: where they are; None for the default.

    Raises:
        Unavailable: no tokenizer of Llama 3.
    """
    from bench.api import default_data_root
    from bench.claims import TEST_ROWS
    from bench.errors import DataError
    from bench.registry import datasets

    # torch-free rooms never import a model's; this one is named when it is asked for
    tries = importlib.import_module("llmrec.tries")
    found: dict[str, Mapping[str, Any]] = {}
    for name in TEST_ROWS:
        try:
            dataset = datasets.get(name)(default_data_root(data_root))
        except DataError as fault:
            print(f"{name} left out: {fault}")
            continue
        found[name] = tries.measure(dataset)
    return found
