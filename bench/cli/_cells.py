"""What the verbs that ask about a cell share: its name, where its data are, how answers are written."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from bench.disk.storage import write_whole
from bench.registry import load_plugins
from bench.results.places import RESULTS
from bench.results.store import Store
from bench.text.plain import neutral, printable

CELL = "a name as printed (book/sasrec+ce#0@1f0c9a), a label, a part of one, a key, or a row's file"
FORMATS = ("text", "jsonl", "csv")


def add_places(parser: argparse.ArgumentParser, *, data: bool = True) -> None:
    """Options that say where rows, artefacts and data are."""
    group = parser.add_argument_group("where")
    group.add_argument(
        "--out", default=str(RESULTS), help="folder of own rows and tables (default: %(default)s)"
    )
    group.add_argument("--store", help="run store (default: $BENCH_STORE or .bench)")
    if data:
        group.add_argument("--data-root", help="folder with book/, toy/ ... (default: $BENCH_DATA)")
    group.add_argument("--plugin", action="append", default=[], help="a file that registers more")


def add_answers(parser: argparse.ArgumentParser) -> None:
    """Options that say how answers are written."""
    group = parser.add_argument_group("answers")
    group.add_argument("--format", choices=FORMATS, default="text", help="default: %(default)s")
    group.add_argument("--to", type=Path, metavar="FILE", help="write there (default: print)")


def places(options: argparse.Namespace) -> tuple[Store, Path | None]:
    """The store and the data folder of the options; plugins are loaded."""
    from bench.api import default_data_root, default_store

    load_plugins(options.plugin)
    root = default_data_root(getattr(options, "data_root", None))
    return default_store(options.out, options.store), root


def write_answers(
    records: Iterable[Mapping[str, Any]], lines: Iterable[str], options: argparse.Namespace
) -> None:
    """Write records as JSON lines or as a table, one line an entry of a list, or the text beside them.

    Args:
        records: one a test row or history, with a ``list``.
        lines: the same for people.
        options: with ``format`` and ``to``.
    """
    if options.to is None:
        _write(sys.stdout, records, lines, options.format)
        return

    def fill(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as file:
            _write(file, records, lines, options.format)

    write_whole(options.to, fill)


def _write(
    file: TextIO, records: Iterable[Mapping[str, Any]], lines: Iterable[str], form: str
) -> None:
    if form == "text":
        file.writelines(f"{printable(line)}\n" for line in lines)
    elif form == "jsonl":
        file.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in records)
    else:
        table = csv.writer(file)
        table.writerow(["user", "row", "rank", "item", "title", "score", "target"])
        for one in records:
            target = one.get("target", {}).get("title")
            for entry in one["list"]:
                hit = "" if target is None else int(entry["title"] == target)
                words = (
                    one["user"],
                    one.get("row", ""),
                    entry["rank"],
                    entry["item"],
                    entry["title"],
                )
                shown = (neutral(word, "csv") if isinstance(word, str) else word for word in words)
                table.writerow([*shown, entry.get("score", ""), hit])


def titles(entries: Sequence[Mapping[str, str]], most: int) -> str:
    """The last titles of a history, or the first of a list, between bars."""
    return " | ".join(entry["title"] or f"item {entry['item']}" for entry in entries[:most])
