"""The paper's four datasets, read from the window files its authors published.

``<root>/<name>/`` holds ``train.csv``, ``test.csv``, ``id2name4Rec.json`` and perhaps ``valid.csv``, each
plain or as ``.gz``. Book and Clothing have no published validation file: it is carved out of train, with
a note. Clothing is examined on ``test_5000.csv`` when that is there, as in the paper; elsewhere the 5,000
are the whole test set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.cell import digest
from bench.data.exams import carve_valid, exam
from bench.data.files import data_root
from bench.data.formats.names import read_names
from bench.data.formats.titles import read_titles
from bench.data.formats.windows import OnMissingTitle, read_windows
from bench.data.whole import check_whole
from bench.errors import Unavailable
from bench.registry import datasets
from bench.types import Dataset, Exam, Split, Windows

READER = "published/1"  # raise it when the same files give other arrays


@datasets.register("toy")
def toy(root: Path | None = None) -> Dataset:
    """Amazon 2014 Toys and Games: 38,344 / 4,793 / 4,794 windows over 11,758 items."""
    return read_published("toy", root)


@datasets.register("book")
def book(root: Path | None = None) -> Dataset:
    """Amazon 2018 Books: 35,060 / none / 4,383 windows over 6,344 items."""
    return read_published("book", root)


@datasets.register("clothing")
def clothing(root: Path | None = None) -> Dataset:
    """Amazon 2014 Clothing: 44,351 / none / 5,544 windows (5,000 examined) over 22,948 items."""
    return read_published("clothing", root, test_stems=("test_5000", "test"))


@datasets.register("office")
def office(root: Path | None = None) -> Dataset:
    """Amazon 2014 Office Products: 15,400 / 1,925 / 1,925 windows over 2,414 items."""
    return read_published("office", root)


def read_published(
    name: str,
    root: Path | None = None,
    *,
    domain: str | None = None,
    test_stems: tuple[str, ...] = ("test",),
    on_missing_title: OnMissingTitle = "error",
) -> Dataset:
    """Read a dataset in the published form.

    Args:
        name: the folder below ``root``.
        root: the folder above; None for ``BENCH_DATA`` or the cache.
        domain: of the prompts; None for the name.
        test_stems: names the test file may have, the first one found is taken.
        on_missing_title: as in ``read_windows``.

    Raises:
        Unavailable: a file is not there, with how to get it.
        DataError: a file cannot be read as it stands, with the line.
    """
    return read_folder(
        data_root(root) / name, name, domain or name, test_stems, on_missing_title=on_missing_title
    )


def read_folder(
    folder: Path,
    name: str,
    domain: str,
    test_stems: tuple[str, ...] = ("test",),
    *,
    on_missing_title: OnMissingTitle = "error",
) -> Dataset:
    """Read any folder in the published form; see :func:`read_published`.

    Args:
        folder: holds the files.
        name: how to call the dataset.
        domain: of the prompts.
        test_stems: names the test file may have, the first one found is taken.
        on_missing_title: as in ``read_windows``.

    Raises:
        Unavailable: a file is not there.
        DataError: a file cannot be read as it stands, with the line.
    """
    check_whole(folder)
    valid_file = _find(folder, "valid.csv")
    files = {
        "titles": _require(name, folder, ("id2name4Rec.json",)),
        "train": _require(name, folder, ("train.csv",)),
        "test": _require(name, folder, tuple(f"{stem}.csv" for stem in test_stems)),
        **({"valid": valid_file} if valid_file else {}),
    }
    titles = read_titles(files["titles"], domain)
    names, user_names = read_names(folder, titles.published_N)
    titles = replace(titles, catalogue=replace(titles.catalogue, item_names=names))
    notes = list(titles.notes)
    rows: dict[str, Windows] = {}
    for part in [part for part in ("train", "valid", "test") if part in files]:
        rows[part], said = read_windows(files[part], titles, on_missing_title=on_missing_title)
        notes += said
    train, valid = rows["train"], exam(rows["valid"]) if "valid" in rows else None
    if (np.diff(train.timestamp_W) < 0).any():
        notes.append(f"{files['train'].name}: rows are not in order of time")
    notes.append(f"tested on {files['test'].name}, {len(rows['test'])} rows")
    parts = _assemble(train, valid, exam(rows["test"]), notes)
    version = _version(name, rows)
    return Dataset(name, version, titles.catalogue, parts, tuple(notes), user_names)


def _assemble(train: Windows, valid: Exam | None, test: Exam, notes: list[str]) -> Split:
    if valid is not None:
        return Split(train, valid, test)
    split, note = carve_valid(train, test)
    notes.append(note)
    return split


def _version(name: str, rows: Mapping[str, Windows]) -> str:
    """Hash of what the files say, so that compression or a further column makes no other data."""
    catalogue = rows["train"].catalogue
    seal = hashlib.sha256(digest([READER, name, catalogue.domain, catalogue.titles]).encode())
    for part, windows in rows.items():
        sequences = windows.sequences
        seal.update(f"{part} {len(windows)}".encode())
        for array in (windows.user_W, windows.timestamp_W, sequences.offsets, sequences.values):
            seal.update(np.ascontiguousarray(array, "<i8").tobytes())
    return seal.hexdigest()[:16]


def _find(folder: Path, file: str) -> Path | None:
    found = (folder / f"{file}{ending}" for ending in ("", ".gz"))
    return next((path for path in found if path.is_file()), None)


def _require(name: str, folder: Path, files: tuple[str, ...]) -> Path:
    for file in files:
        path = _find(folder, file)
        if path is not None:
            return path
    raise Unavailable(
        f"{name} is not on this machine ({folder / files[-1]} is missing): run "
        "`python -m bench data get paper`, or set BENCH_DATA (or --data-root) to the folder that "
        f"holds {name}/"
    )
