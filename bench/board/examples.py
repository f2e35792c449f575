"""Example users: a few test rows of each table, told with the titles of history, target and lists.

Rows name titles by number. The titles are in the datasets, which a machine that builds tables need not have,
so ``bench board --examples`` keeps those of a few test rows in ``examples/`` beside the rows: every build
after that gives the same page. The test rows are chosen by a rule and not by what looks well.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.board.entry import Entry
from bench.data.load import load_dataset
from bench.disk.storage import write_whole
from bench.errors import BenchError, DataError
from bench.evaluation.positions import MISSING
from bench.results.packed import Packed, seal_of
from bench.results.table_key import TableKey
from bench.types import Dataset, IntArray

SHARED, HITS = 3, 2  # test rows that all lines show, and of its hits that a line shows
HISTORY, LONGEST = 5, 100  # items of a history, characters of a title
SEAL = 16  # digits of a packed file's checksum that name it here


@dataclass(frozen=True)
class Examples:
    """Example users of the tables that share an exam. Test rows, titles and files are named by text.

    Attributes:
        shown: by test row, the last items of its history and its target.
        titles: by number, every title that is named here.
        lists: by the checksum of a packed file, by test row, the ten titles it lists.
    """

    shown: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, Mapping[str, list[int]]] = field(default_factory=dict)

    def of(self, entry: Entry) -> list[list[Any]]:
        """The lists of a line's first seed, as test row and titles; empty where none are kept."""
        if not entry.paths:
            return []
        own = self.lists.get(seal_of(entry.paths[0])[:SEAL], {})
        return [[row, own[row]] for row in sorted(own, key=int)]

    def __or__(self, other: Examples) -> Examples:
        """Both together; of what both have, the other's."""
        return Examples(
            {**self.shown, **other.shown},
            {**self.titles, **other.titles},
            {**self.lists, **other.lists},
        )


def read_examples(folders: Iterable[Path], keys: Iterable[TableKey]) -> dict[TableKey, Examples]:
    """The examples that are kept of some tables.

    Args:
        folders: where ``examples/`` may be; what a later one has is preferred.
        keys: of the tables.

    Raises:
        DataError: a file of examples cannot be read.
    """
    found: dict[TableKey, Examples] = {}
    for key in keys:
        for folder in folders:
            if (path := _path(folder, key)).is_file():
                found[key] = found.get(key, Examples()) | _read(path)
    return found


def keep_examples(
    folder: Path, tables: Mapping[TableKey, Sequence[Entry]], root: Path | None = None
) -> Iterator[str]:
    """Write the examples of tables whose rows have lists; a sentence for each file or why there is none.

    Args:
        folder: where ``examples/`` is.
        tables: the entries of each.
        root: where the datasets are; None for the usual place.
    """
    shared: dict[Path, tuple[TableKey, list[Entry]]] = {}
    for key, entries in tables.items():
        shared.setdefault(_path(folder, key), (key, []))[1].extend(entries)
    for path, (key, entries) in shared.items():
        try:
            dataset = load_dataset(key.dataset, root, uncut=entries[0].cell.uncut)
        except BenchError as fault:
            yield f"{path.name}: no examples, {' '.join(str(fault).split())}"
            continue
        if dataset.version != key.data_version:
            yield f"{path.name}: no examples, {key.dataset} is of another version here"
            continue
        found = make_examples(entries, dataset, key.test_rows)
        if found.lists:
            _write(path, found)
            yield f"{path.name}: {len(found.shown)} test rows, lists of {len(found.lists)} runs"


def make_examples(
    entries: Iterable[Entry], dataset: Dataset, test_rows: int | None = None
) -> Examples:
    """The examples of some lines: test rows spread evenly over the exam, and evenly over a line's hits.

    Args:
        entries: lines of one table; those without numbers have no lists.
        dataset: what they were examined on.
        test_rows: cap on the test rows, None for all.
    """
    exam = dataset.split.test.sample(test_rows)
    catalogue = dataset.catalogue
    every = _spread(np.arange(len(exam)), SHARED)
    lists: dict[str, dict[str, list[int]]] = {}
    for entry in (entry for entry in entries if entry.paths):
        packed = entry.first_packed
        if packed.lists is not None and packed.asks(exam.queries.user_Q):
            rows = sorted({*every, *_spread(_hits(packed), HITS)})
            own = {str(row): [int(t) for t in packed.lists.title_QK[row] if t] for row in rows}
            lists[seal_of(entry.paths[0])[:SEAL]] = own
    shown: dict[str, dict[str, Any]] = {}
    for row in sorted({int(row) for own in lists.values() for row in own}):
        history = [int(catalogue.title_class[i]) for i in exam.queries.history[row]]
        target = int(catalogue.title_class[exam.target_Q[row]])
        shown[str(row)] = {"history": history[-HISTORY:], "target": target}
    named = {t for own in lists.values() for titles in own.values() for t in titles}
    named |= {t for one in shown.values() for t in (*one["history"], one["target"])}
    return Examples(shown, {str(t): _short(catalogue.titles[t]) for t in sorted(named)}, lists)


def _hits(packed: Packed) -> IntArray:
    return np.flatnonzero(packed.title.position_Q != MISSING)


def _spread(rows: IntArray, n: int) -> list[int]:
    """``n`` of the rows, the middles of equal parts of them; all where there are no more."""
    places = ((np.arange(n) + 0.5) * len(rows) / n).astype(int) if len(rows) > n else slice(None)
    return [int(row) for row in rows[places]]


def _short(title: str) -> str:
    flat = " ".join(html.unescape(title).split())
    return flat if len(flat) <= LONGEST else flat[: LONGEST - 1] + "…"


def _path(folder: Path, key: TableKey) -> Path:
    cap = f"-{key.test_rows}rows" if key.test_rows else ""
    return folder / "examples" / f"{key.dataset}-{key.data_version[:12] or 'unknown'}{cap}.json"


def _read(path: Path) -> Examples:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Examples(stored["shown"], stored["titles"], stored["lists"])
    except (ValueError, KeyError, TypeError) as fault:
        raise DataError(f"{path}: not a file of examples; make it again with --examples") from fault


def _write(path: Path, found: Examples) -> None:
    value = {"shown": found.shown, "titles": found.titles, "lists": found.lists}
    text = json.dumps(value, indent=0, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda part: part.write_text(f"{text}\n", encoding="utf-8"))
