"""``bench data import``: its options, what it refuses before it reads, and what it says it understood."""

from __future__ import annotations

import argparse
import keyword
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli._exchange import READERS, write_plugin
from bench.cli._sizes import sizes
from bench.errors import ConfigError
from bench.registry import datasets

if TYPE_CHECKING:
    from bench.data.splits import Protocol

TAKEN = ("Path", "datasets", "read_published")  # what the file that loads a dataset needs itself
ALL = frozenset(READERS)
# which forms an option means something for; elsewhere it is refused, never passed over
FORMS_OF = {
    "user_column": {"table", "atomic"},
    "item_column": {"table", "atomic"},
    "time_column": {"table", "atomic"},
    "title_column": {"table", "atomic"},
    "columns": {"table"},
    "items": {"table"},
    "item_columns": {"table"},
    "separator": {"table"},
    "encoding": {"table"},
    "time_unit": {"table"},
    "time_format": {"table"},
    "tolerate": {"table"},
    "category": {"amazon"},
    "release": {"amazon"},
    "switch": {"table", "atomic", "amazon"},
    "protocol": ALL - {"windows"},
    "width": ALL - {"windows"},
    "min_length": ALL - {"windows"},
}
HELP = {
    "user_column": "column with the user's id (default: user_id)",
    "item_column": "column with the item's id (default: item_id)",
    "time_column": "column with the time (default: timestamp); none: the order of the rows is the time",
    "title_column": "column with the item's title (default: none, with --items title)",
    "columns": "the columns of a file without a header line: user,item,rating,time",
    "items": "another file with the titles, by item",
    "item_columns": "the columns of that one, without a header line: item,title",
    "separator": "between columns: ',' ';' '|' '::' tab space (default: told by the first line)",
    "encoding": "of a text file: latin-1, cp1252, utf-16 ... (default: utf-8, or utf-16 by its mark)",
    "time_unit": "of times that are numbers: s, ms, us, ns (default: told by their size)",
    "time_format": "of dates in an unusual form, as strptime has it: '%%d/%%m/%%Y %%H:%%M'",
    "tolerate": "largest share of rows that may be unusable (default: 0.01)",
    "category": "amazon: as in the file names, e.g. Office_Products",
    "release": "amazon: 2014, 2018 ... (default: 2014)",
    "width": "longest window (default: 11)",
    "min_length": "shortest window (default: 2)",
}
KINDS = {"items": Path, "tolerate": float, "width": int, "min_length": int}


def add_source(parser: argparse.ArgumentParser) -> None:
    """A source of interactions and how to read and cut it."""
    parser.add_argument("source", type=Path, help="a table, or a folder")
    parser.add_argument("--as", dest="form", choices=tuple(READERS), default="table")
    for name, line in HELP.items():
        word = f"--{name.replace('_', '-')}"
        parser.add_argument(word, help=line, type=KINDS.get(name, str))
    parser.add_argument(
        "--switch",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="core=5, titles=keep|clean, repeats=keep|exact|first|last, sample_items=100000, seed, "
        "since and until (unix seconds), title_required=yes|no, item_order, user_order; by default "
        "amazon follows the paper's rule and the others keep every row; may be repeated",
    )


def check_source(options: argparse.Namespace) -> None:
    """Refuse options that mean nothing for the form.

    Raises:
        ConfigError: names the option and the forms that have it.
    """
    for name, forms in FORMS_OF.items():
        if getattr(options, name, None) not in (None, []) and options.form not in forms:
            raise ConfigError(
                f"--{name.replace('_', '-')} has no meaning for --as {options.form}; it is of "
                f"{', '.join(sorted(forms))}"
            )
    if options.item_columns and not options.items:
        raise ConfigError("--item-columns names the columns of a file; name the file with --items")


def protocol_of(options: argparse.Namespace, name: str | None) -> Protocol:
    """The way to split that the options name."""
    from bench.data.splits import PAPER, Protocol

    return Protocol(
        name=PAPER.name if name is None else name,
        width=PAPER.width if options.width is None else options.width,
        min_length=PAPER.min_length if options.min_length is None else options.min_length,
    )


def check_name(name: str, domain: str) -> None:
    """Refuse a name that a dataset cannot have or that is taken.

    Raises:
        ConfigError: says which and what is allowed.
    """
    from bench.data.formats.titles import DOMAINS

    if not name.isidentifier() or not name.isascii():
        raise ConfigError(
            f"--name {name!r} must be letters, digits and _, not beginning with a digit"
        )
    if keyword.iskeyword(name) or name in TAKEN:
        raise ConfigError(f"--name {name!r} is a word of Python; choose another, such as my_{name}")
    if name.lower() in {known.lower() for known in datasets.names()}:
        raise ConfigError(
            f"--name {name!r} is the name of a dataset that is already there; taken are: "
            f"{', '.join(datasets.names())}"
        )
    if domain not in DOMAINS:
        raise ConfigError(f"--domain {domain!r} has no prompt; known: {', '.join(DOMAINS)}")


def run_import(options: argparse.Namespace) -> int:
    """Read, show what was understood, and write it unless it is a trial."""
    from bench.data.files import data_root
    from bench.data.formats.delimited import published_files
    from bench.data.published import read_published
    from bench.data.understood import lines
    from bench.data.whole import check_free, written_whole

    name = options.name
    check_name(name, options.domain)
    check_source(options)
    folder = data_root(options.data_root) / name
    check_free(folder)
    found = READERS[options.form](options, protocol_of(options, options.protocol))
    print(f"the first {len(found.rows)} interactions, as understood:\n")
    print("\n".join(lines(found.rows)), end="\n\n")
    for note in found.dataset.notes:
        print(f"  - {note}")
    if options.dry_run:
        print(f"\n{name}: {sizes(found.dataset)}\nnothing was written (--dry-run)")
        return 0
    with written_whole(folder) as part:
        published_files(found.dataset, part)
        write_plugin(part, name, options.domain, options.source.name)
    print(f"\n{name}: {sizes(read_published(name, folder.parent, domain=options.domain))}")
    plugin = folder / f"{name}.py"
    print(f"written to {folder}; next:")
    print(f"  python -m bench data audit {name} --plugin {plugin}")
    print(f"  python -m bench run --plugin {plugin} --datasets {name}")
    return 0
