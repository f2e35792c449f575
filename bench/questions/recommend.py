"""Recommendations of a stored model for histories that a user gives, by ids or titles."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import Cell
from bench.errors import ArtefactError, DataError
from bench.evaluation.checks import check_ranking
from bench.questions.exam import data_of, described, listed
from bench.ragged import Ragged
from bench.results.store import Store
from bench.saved import restore
from bench.types import Catalogue, Dataset, Queries, Ranking

SEPARATOR = "|"  # between the items of a history on the command line; titles have commas


@dataclass(frozen=True)
class Asked:
    """A history to continue.

    Attributes:
        user: what the user is called; any text.
        history: items by own id or title, oldest first.
    """

    user: str
    history: tuple[str, ...]


def read_histories(path: Path) -> list[Asked]:
    """Histories of a file: JSON lines ``{"user": ..., "history": [...]}``, or a table ``user,item``.

    The rows of a table are in the order of their events; its first line names the columns.

    Raises:
        DataError: the file cannot be read so; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({fault})") from fault
    if path.suffix in {".jsonl", ".json", ".ndjson"}:
        return list(_json_lines(path, text))
    return _table(path, text)


def _json_lines(path: Path, text: str) -> Iterator[Asked]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            user, history = str(said.get("user", number)), said["history"]
            if not isinstance(history, list):
                raise TypeError("history is no list")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
            raise DataError(
                f'{path}, line {number}: not {{"user": ..., "history": [...]}} ({fault})'
            ) from fault
        yield Asked(user, tuple(map(str, history)))


def _table(path: Path, text: str) -> list[Asked]:
    try:
        rows = list(csv.DictReader(text.splitlines(), strict=True))
    except csv.Error as fault:
        raise DataError(f"{path}: not a CSV table ({fault})") from fault
    found: dict[str, list[str]] = {}
    for number, row in enumerate(rows, 2):
        user, item = row.get("user"), row.get("item")
        if not user or not item:
            raise DataError(f"{path}, line {number}: no user or no item; columns are user,item")
        found.setdefault(user, []).append(item)
    return [Asked(user, tuple(items)) for user, items in found.items()]


class Names:
    """Finds items by what a user calls them: their own id, else their title."""

    def __init__(self, catalogue: Catalogue) -> None:
        items = range(1, catalogue.n_items + 1)
        self._by_id = {catalogue.item_name(item): item for item in items}
        self._by_title: dict[str, list[int]] = {}
        for item in items:
            self._by_title.setdefault(catalogue.titles[item].casefold(), []).append(item)

    def item(self, text: str) -> int:
        """The item that a text names. Items that share a title are one answer, so the first stands for all.

        Raises:
            DataError: no item is called so; names the nearest titles.
        """
        text = text.strip()
        if text in self._by_id:
            return self._by_id[text]
        if text.casefold() in self._by_title:
            return self._by_title[text.casefold()][0]
        near = difflib.get_close_matches(text.casefold(), self._by_title, 3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise DataError(f"no item has the id or the title {text!r}.{hint}")


def recommend(
    cell: Cell,
    asked: Sequence[Asked],
    store: Store,
    data_root: Path | None,
    *,
    k: int = 10,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Continue histories with a cell's stored model; one record a history, ready for JSON.

    The whole catalogue is ranked, as in the exam. Users are new to the model, and their queries are later
    than all data.

    Args:
        cell: whose model.
        asked: the histories.
        store: where the model is.
        data_root: folder of the datasets; None for the usual one.
        k: length of the lists.
        device: where the model runs.

    Raises:
        ArtefactError: the model is not on this machine.
        DataError: an item that is not in the catalogue, or other data than the cell saw.
    """
    folder = store.artefact(cell)
    if folder is None:
        raise ArtefactError(
            f"the model of {cell.name} is not in {store.root}; `bench why {cell.name}` says how to make it"
        )
    dataset = data_of(cell, data_root)
    queries = as_queries(asked, dataset)
    method = restore(folder, device=device)
    k = min(k, dataset.catalogue.n_items)
    ranking = method.recommend(queries, k)
    check_ranking(ranking, queries, k, dataset.catalogue.n_items)
    return [_record(one, ranking, row, dataset, queries) for row, one in enumerate(asked)]


def as_queries(asked: Iterable[Asked], dataset: Dataset) -> Queries:
    """Histories as queries by users whom no training row knows.

    Args:
        asked: the histories.
        dataset: whose catalogue and times.

    Raises:
        DataError: an item that is not in the catalogue; names the user.
    """
    names, rows = Names(dataset.catalogue), []
    for one in asked:
        try:
            rows.append([names.item(text) for text in one.history if text.strip()])
        except DataError as fault:
            raise DataError(f"user {one.user!r}: {fault}") from fault
    train, test = dataset.split.train, dataset.split.test.queries
    last = max(
        (int(part.max()) for part in (train.timestamp_W, test.timestamp_Q) if len(part)), default=0
    )
    most = max((int(part.max()) for part in (train.user_W, test.user_Q) if len(part)), default=0)
    return Queries(
        catalogue=dataset.catalogue,
        user_Q=most + 1 + np.arange(len(rows)),
        history=Ragged.of(rows),
        timestamp_Q=np.full(len(rows), last + 1),
    )


def _record(
    one: Asked, ranking: Ranking, row: int, dataset: Dataset, queries: Queries
) -> dict[str, Any]:
    catalogue = dataset.catalogue
    # what a list draws by chance is no recommendation
    fixed = None if ranking.tail is None else int(ranking.tail.start_Q[row])
    scores = None if ranking.score_QK is None else ranking.score_QK[row]
    return {
        "user": one.user,
        "history": [described(catalogue, item) for item in queries.history[row].tolist()],
        "list": listed(catalogue, ranking.item_QK[row, :fixed], scores),
    }
