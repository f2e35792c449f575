"""``bench data``: get, look at, audit, bring in and hand out datasets."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli._exchange import EXPORTS, READERS
from bench.cli._import import add_source, check_source, protocol_of, run_import
from bench.cli._sizes import sizes
from bench.cli._verb import add_verb
from bench.disk.storage import write_whole
from bench.errors import BenchError, ConfigError, DataError

if TYPE_CHECKING:
    from bench.types import Dataset

Sub = argparse._SubParsersAction  # the only name argparse has for it
ABOUT = """\
Datasets: get them, look at them, audit them, bring in your own.

  python -m bench data list                        what there is, and what is on this machine
  python -m bench data get paper                   fetch the paper's four datasets, checked to the byte
  python -m bench data describe book               rows, notes, and a few windows with their titles
  python -m bench data audit book office           cold targets, overlap, duplicates, popularity
  python -m bench data split ratings.csv           what each way of splitting would make of a table
  python -m bench data import ratings.csv --name shop --title-column title
  python -m bench data export book --as atomic --to recbole/book

Datasets are looked for in --data-root, else $BENCH_DATA, else the cache folder that `get` fills.
"""
IMPORT = """\
Bring in your own data: cut it into windows, write them in the published form and make it a dataset.

  a table      python -m bench data import ratings.csv --name shop --title-column title
               CSV, TSV, JSON or Parquet, also packed; columns by --user-column ...
  no header    python -m bench data import ratings.dat --name ml --columns user,item,rating,time \\
                 --items movies.dat --item-columns item,title --encoding latin-1
  RecBole      python -m bench data import recbole/shop --name shop --as atomic
               a folder of .inter and .item files; predefined splits are kept
  windows      python -m bench data import folder --name shop --as windows
               train.csv, test.csv, id2name4Rec.json, perhaps valid.csv, as the paper's
  Amazon       python -m bench data import raw --name gifts --as amazon --category Gift_Cards
               raw reviews and metadata as published, through the paper's whole rule (5-core ...)

What was understood is printed before anything is written; with --dry-run nothing is. Users and items keep
their ids in ROOT/shop/ids.json.

Then: python -m bench run --plugin ROOT/shop/shop.py --datasets shop
"""


def add_parser(subparsers: Sub[argparse.ArgumentParser]) -> None:
    """Add the verb with its own verbs; each sets ``func``, which takes the options and returns 0."""
    parser = add_verb(subparsers, "data", "get, describe, audit, import and export datasets", ABOUT)
    verbs = parser.add_subparsers(dest="data_verb", metavar="what", required=True)
    _add_looking(verbs)
    _add_moving(verbs)


def _add_looking(verbs: Sub[argparse.ArgumentParser]) -> None:
    listing = add_verb(verbs, "list", "what there is, and what is on this machine")
    describe = add_verb(verbs, "describe", "rows, notes, and a few windows with their titles")
    describe.add_argument("name")
    describe.add_argument("--rows", type=int, default=3, help="windows to show (default: 3)")
    examine = add_verb(verbs, "audit", "cold targets, overlap, duplicates, popularity")
    examine.add_argument("names", nargs="+", metavar="name")
    examine.add_argument("--json", action="store_true", help="one JSON object a line, no table")
    examine.add_argument("--svg", type=Path, metavar="FOLDER", help="also write FOLDER/NAME.svg")
    compare = add_verb(verbs, "split", "what each way of splitting would make of a table")
    add_source(compare)
    compare.set_defaults(func=_split)
    for each, action in ((listing, _list), (describe, _describe), (examine, _audit)):
        _add_dataset(each, action)


def _add_moving(verbs: Sub[argparse.ArgumentParser]) -> None:
    get = add_verb(verbs, "get", "fetch the paper's files")
    get.add_argument("names", nargs="+", metavar="paper|toy|book|clothing|office")
    get.add_argument("--base-url", help="where the repositories are (for a mirror)")
    get.add_argument("--workers", type=int, default=4, help="downloads at a time (default: 4)")
    get.add_argument("--data-root", type=Path, help="where to put them (default: see `bench data`)")
    get.set_defaults(func=_get)
    bring = add_verb(verbs, "import", "make a dataset of a table, RecBole files or reviews", IMPORT)
    bring.add_argument("--name", required=True, help="how to call it: letters, digits, _")
    bring.add_argument(
        "--domain", default="item", help="words of the prompt: item, book, movie ..."
    )
    bring.add_argument("--protocol", help="see `bench data split` (default: global_time)")
    bring.add_argument(
        "--dry-run", action="store_true", help="show what was understood, write nothing"
    )
    bring.add_argument("--data-root", type=Path, help="its folder will be in this one")
    add_source(bring)
    bring.set_defaults(func=run_import)
    hand = add_verb(verbs, "export", "write a dataset for other tools")
    hand.add_argument("name")
    hand.add_argument("--as", dest="form", choices=tuple(EXPORTS), required=True)
    hand.add_argument("--to", type=Path, required=True, help="a new folder")
    _add_dataset(hand, _export)


def _add_dataset(
    parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace], int]
) -> None:
    parser.add_argument("--data-root", type=Path, help="folder with book/, toy/ ...")
    parser.add_argument("--plugin", action="append", default=[], help="a file that registers more")
    parser.set_defaults(func=action)


def _load(options: argparse.Namespace, name: str) -> Dataset:
    from bench.registry import datasets, load_plugin

    for plugin in options.plugin:
        load_plugin(plugin)
    found: Dataset = datasets.get(name)(options.data_root)
    return found


def _list(options: argparse.Namespace) -> int:
    from bench.registry import datasets, load_plugin

    for plugin in options.plugin:
        load_plugin(plugin)
    for name in datasets.names():
        try:
            print(f"{name:<12} {sizes(_load(options, name))}")
        except BenchError as fault:
            print(f"{name:<12} not here: {fault}")
    return 0


def _get(options: argparse.Namespace) -> int:
    from bench.data.fetch import fetch
    from bench.data.files import data_root
    from bench.data.pins import BASE, pins_for

    if options.workers < 1:
        raise ConfigError(f"--workers must be 1 or more, got {options.workers}")
    root = data_root(options.data_root)
    pins = pins_for(options.names)
    base = options.base_url or BASE
    fetch(pins, root, base=base, workers=options.workers, say=_say)
    print(f"{len(pins)} files are in {root}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _describe(options: argparse.Namespace) -> int:
    data = _load(options, options.name)
    print(f"{data.name}: {sizes(data)}\n")
    for note in data.notes:
        print(f"  - {note}")
    for line in _some_rows(data, options.rows):
        print(line)
    return 0


def _some_rows(data: Dataset, n_rows: int) -> Iterator[str]:
    """Rows evenly spread over train, by the data's own ids, made safe for a terminal."""
    from bench.data.understood import date, printable

    train = data.split.train
    count = max(0, min(n_rows, len(train)))
    for row in range(0, len(train), max(1, len(train) // max(1, count)))[:count]:
        user = printable(data.user_name(int(train.user_W[row])))
        yield f"\ntraining row {row}, user {user}, {date(int(train.timestamp_W[row]))}"
        for sign, item in [*(("  ", i) for i in train.history[row]), ("->", train.target_W[row])]:
            named = printable(train.catalogue.item_name(int(item)))
            yield f"  {sign} {named:>6}  {printable(train.catalogue.titles[item])[:100]}"


def _audit(options: argparse.Namespace) -> int:
    from bench.data.audit import audit
    from bench.data.audit_view import svg, table

    for name in options.names:
        found = audit(_load(options, name))
        print(json.dumps(found.as_dict()) if options.json else table(found))
        if options.svg:
            path, drawn = options.svg / f"{found.name}.svg", svg(found)
            write_whole(path, partial(Path.write_text, data=drawn, encoding="utf-8"))
            _say(f"wrote {path}")
    return 0


def _export(options: argparse.Namespace) -> int:
    for path in EXPORTS[options.form](_load(options, options.name), options.to):
        print(path)
    return 0


def _split(options: argparse.Namespace) -> int:
    from bench.data.audit import audit
    from bench.data.splits import PROTOCOLS

    shown = (
        ("cold test targets", "never in train"),
        ("repeats and overlap", "test rows whose user has training rows"),
        ("time", "test targets before train's end"),
    )
    check_source(options)
    for name in PROTOCOLS:
        try:
            data = READERS[options.form](options, protocol_of(options, name)).dataset
        except DataError as fault:
            print(f"{name}: {fault}\n")
            continue
        facts = audit(data).facts
        print(f"{name}: {sizes(data)}")
        for section, fact in shown:
            print(f"  {fact:<42} {facts[section][fact]:.4f}")
        print()
    print("`bench data import --protocol NAME` writes one of them.")
    return 0
