"""Where ``bench data`` reads datasets from and what it writes them as."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from bench.data.amazon.rebuild import RebuildSwitches
    from bench.data.splits import Protocol
    from bench.types import Dataset

SPLIT = {"window": "--width", "min_length": "--min-length", "protocol": "--protocol"}
TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
PLUGIN = '''\
"""The dataset {name}, imported from {source}."""

from pathlib import Path

from bench.data.published import read_published
from bench.registry import datasets


@datasets.register("{name}")
def {name}(root=None):
    """Imported with `bench data import`."""
    return read_published("{name}", Path(__file__).parent.parent, domain="{domain}")
'''


def _read_table(options: argparse.Namespace, cut: Protocol) -> Dataset:
    from bench.data.formats.delimited import read_table

    return read_table(
        options.source,
        user=options.user_column,
        item=options.item_column,
        time=options.time_column,
        title=options.title_column,
        split=cut,
    )


def _read_atomic(options: argparse.Namespace, cut: Protocol) -> Dataset:
    from bench.data.formats.atomic import read_atomic

    return read_atomic(options.source, split=cut)


def _read_amazon(options: argparse.Namespace, cut: Protocol) -> Dataset:
    from bench.data.amazon.rebuild import RawSource, RebuildSwitches, rebuild

    if not options.category:
        raise ConfigError("--as amazon needs --category, as in the file names: Office_Products ...")
    source = RawSource.find(options.source, options.category, options.release)
    switches = _switches(options.switch, RebuildSwitches())
    cuts: dict[str, Any] = {"protocol": cut.name, "window": cut.width, "min_length": cut.min_length}
    return rebuild(source, dataclasses.replace(switches, **cuts))


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


READERS: dict[str, Callable[[argparse.Namespace, Protocol], Dataset]] = {
    "table": _read_table,
    "atomic": _read_atomic,
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

    folder.mkdir(parents=True, exist_ok=True)
    exams = {"valid": data.split.valid, "test": data.split.test}
    paths = [folder / f"{data.name}.{part}.qrels" for part in exams]
    for path, exam in zip(paths, exams.values(), strict=True):
        if path.exists():
            raise DataError(f"{path} is already there; export to a new folder")
        write_qrels(exam, path)
    return paths


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
