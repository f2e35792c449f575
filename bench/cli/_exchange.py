"""Where ``bench data`` reads datasets from and what it writes them as."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError

if TYPE_CHECKING:
    from bench.data.amazon.rebuild import RebuildSwitches
    from bench.data.formats.delimited import Layout
    from bench.data.splits import Protocol
    from bench.data.understood import Understood
    from bench.types import Dataset

SPLIT = {"window": "--width", "min_length": "--min-length", "protocol": "--protocol"}
TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
PLUGIN = '''\
"""The dataset {name}, imported from {source}."""

from pathlib import Path

from bench.data.published import read_published
from bench.registry import datasets


@datasets.register("{name}")
def load(root=None):
    """Imported with `bench data import`."""
    return read_published("{name}", Path(__file__).parent.parent, domain="{domain}")
'''


def _read_table(options: argparse.Namespace, cut: Protocol) -> Understood:
    from bench.data.amazon.rebuild import build
    from bench.data.formats.delimited import every_row
    from bench.data.understood import Understood

    source = table_layout(options).source(options.source)
    built = build(source, _switches(options.switch, every_row(cut)))
    return Understood(built.dataset, built.rows)


def table_layout(options: argparse.Namespace) -> Layout:
    """Where a table keeps what, by the options.

    Raises:
        ConfigError: options that contradict each other.
    """
    from bench.data.amazon.dialect import Dialect
    from bench.data.amazon.times import UNITS
    from bench.data.formats.delimited import Layout

    names = _listed("--columns", options.columns)
    roles: dict[str, Any] = {
        "user": options.user_column or _named("user", "user_id", names),
        "item": options.item_column or _named("item", "item_id", names),
        "time": options.time_column or _named("time", "timestamp", names),
        "title": options.title_column or ("title" if options.items or "title" in names else None),
    }
    if names and (gone := [role for role in ("user", "item") if roles[role] not in names]):
        raise ConfigError(
            f"--columns {options.columns!r} names no {gone[0]}; user,item,time is the least"
        )
    if roles["time"] == "none" or (
        names and roles["time"] not in names and not options.time_column
    ):
        roles["time"] = None
    if options.time_unit not in (None, *UNITS):
        raise ConfigError(f"--time-unit {options.time_unit!r} is not known; {', '.join(UNITS)}")
    given: dict[str, Any] = {"unit": options.time_unit, "tolerated": options.tolerate}
    return Layout(
        **roles,
        names=names,
        items=options.items,
        item_names=_listed("--item-columns", options.item_columns),
        dialect=Dialect(separator=options.separator, encoding=options.encoding),
        time_format=options.time_format,
        **{name: value for name, value in given.items() if value is not None},
    )


def _listed(option: str, text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    named = [name or f"column {place}" for place, name in enumerate(names, 1)]
    if len(set(named)) != len(named):
        raise ConfigError(f"{option} {text!r} names a column twice; give each a name of its own")
    return tuple(named)


def _named(role: str, usual: str, names: tuple[str, ...]) -> str:
    """The name of a column: the role's own among those listed, else the usual one."""
    return role if role in names else usual


def _read_atomic(options: argparse.Namespace, cut: Protocol) -> Understood:
    from bench.data.amazon.rebuild import build
    from bench.data.formats.atomic import plain_source, plain_stem, read_atomic
    from bench.data.formats.atomic_split import Fields
    from bench.data.formats.delimited import every_row
    from bench.data.understood import Understood, of_windows

    columns = ("user", "item", "time", "title")
    given = {role: getattr(options, f"{role}_column") for role in columns}
    fields = Fields(**{role: name for role, name in given.items() if name is not None})
    stem = plain_stem(options.source)
    if stem is not None:
        built = build(plain_source(stem, fields), _switches(options.switch, every_row(cut)))
        return Understood(built.dataset, built.rows)
    for name in ("switch", "protocol", "width", "min_length"):
        if getattr(options, name, None) not in (None, []):
            raise ConfigError(
                f"--{name.replace('_', '-')} has no meaning for {options.source}: its split is "
                "predefined and kept"
            )
    return of_windows(read_atomic(options.source, fields=fields))


def _read_windows(options: argparse.Namespace, cut: Protocol) -> Understood:
    from bench.data.published import read_folder
    from bench.data.understood import of_windows

    return of_windows(read_folder(options.source, options.source.name, "item"))


def _read_amazon(options: argparse.Namespace, cut: Protocol) -> Understood:
    from bench.data.amazon.rebuild import RawSource, RebuildSwitches, build
    from bench.data.understood import Understood

    if not options.category:
        raise ConfigError("--as amazon needs --category, as in the file names: Office_Products ...")
    source = RawSource.find(options.source, options.category, options.release or "2014")
    switches = _switches(options.switch, RebuildSwitches())
    cuts: dict[str, Any] = {"protocol": cut.name, "window": cut.width, "min_length": cut.min_length}
    built = build(source, dataclasses.replace(switches, **cuts))
    return Understood(built.dataset, built.rows)


def _switches(words: list[str], base: RebuildSwitches) -> RebuildSwitches:
    """``base`` with the switches of ``NAME=VALUE`` words; numbers and true/false, yes/no are read as such.

    Raises:
        ConfigError: a switch that does not exist or has an option of its own, or a value that it refuses.
    """
    known = [field.name for field in dataclasses.fields(base) if field.name not in SPLIT]
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name in SPLIT:
            raise ConfigError(
                f"--switch {word!r} is no switch; use {SPLIT[name]} of `bench data import`"
            )
        if name not in known or not equals:
            raise ConfigError(f"--switch {word!r} is not known; NAME=VALUE with {', '.join(known)}")
        whole = re.fullmatch(r"-?[0-9]{1,18}", text)
        values[name] = int(text) if whole else TRUTHS.get(text.lower(), text)
    return dataclasses.replace(base, **values)


READERS: dict[str, Callable[[argparse.Namespace, Protocol], Understood]] = {
    "table": _read_table,
    "atomic": _read_atomic,
    "windows": _read_windows,
    "amazon": _read_amazon,
}


def _export_atomic(data: Dataset, folder: Path) -> list[Path]:
    from bench.data.formats.atomic import write_atomic

    return write_atomic(data, folder)


def _export_published(data: Dataset, folder: Path) -> list[Path]:
    from bench.data.formats.delimited import write_published

    return write_published(data, folder)


def _export_qrels(data: Dataset, folder: Path) -> list[Path]:
    from bench.data.formats.trec import write_qrels
    from bench.data.whole import written_whole

    exams = {"valid": data.split.valid, "test": data.split.test}
    with written_whole(folder) as part:
        for name, exam in exams.items():
            write_qrels(exam, part / f"{data.name}.{name}.qrels")
    return [folder / f"{data.name}.{name}.qrels" for name in exams]


EXPORTS: dict[str, Callable[[Dataset, Path], list[Path]]] = {
    "atomic": _export_atomic,
    "published": _export_published,
    "qrels": _export_qrels,
}


def write_plugin(folder: Path, name: str, domain: str, source: str) -> Path:
    """Write the file that makes a folder in the published form a dataset of its own.

    Args:
        folder: the folder, called as the dataset.
        name: of the dataset, an identifier.
        domain: of its prompts, an identifier.
        source: where the data came from, for the first line; any text.
    """
    plain = ascii(source)[1:-1].replace('"', "'").replace("\\", "/")
    path = folder / f"{name}.py"
    path.write_text(PLUGIN.format(name=name, source=plain, domain=domain), encoding="utf-8")
    return path
