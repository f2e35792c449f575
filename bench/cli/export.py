"""``bench export``: a cell for other tools."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli._cells import CELL, add_places, places
from bench.cli._verb import add_verb

ABOUT = """\
A cell for other tools, each in a folder of its own.

  python -m bench export book/sasrec+ce#0 --trec DIR      run.trec and test.qrels: trec_eval, ranx ...
  python -m bench export ml_100k/bigrec+lml --peft DIR    adapters: PeftModel.from_pretrained(base, DIR)
  python -m bench export ml_100k/bigrec+lml --hf DIR      whole: AutoModelForCausalLM.from_pretrained(DIR)

Datasets are exported by `bench data export`.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers, "export", "a cell for other tools: TREC, peft, transformers", ABOUT
    )
    parser.add_argument("cell", metavar="CELL", help=CELL)
    form = parser.add_mutually_exclusive_group(required=True)
    for name, what in (("trec", "its lists"), ("peft", "its adapters"), ("hf", "its whole model")):
        form.add_argument(f"--{name}", type=Path, metavar="DIR", help=f"{what}; DIR is made")
    add_places(parser)
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Write the folder."""
    from bench.questions.exam import answered
    from bench.questions.export import export_model, export_trec
    from bench.questions.find import find

    store, root = places(options)
    found = find(options.cell, store)
    if options.trec:
        paths = export_trec(answered(found, store, root), found.cell.name, options.trec)
    else:
        form = "peft" if options.peft else "hf"
        paths = export_model(found, store, options.peft or options.hf, form=form)
    print("\n".join(map(str, paths)))
    return 0
