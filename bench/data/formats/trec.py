"""Rankings as TREC runs and answers as TREC qrels, for ranx, ir-measures and trec_eval.

A query is called by its row in the exam, from 0; a document by the item's own id where the data have such
ids, else by its number. Under ``title`` identity,
the suite's default, items that share a title are one document called by the first of them, so that outside
tools get the numbers of the board.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np

from bench.data.files import short
from bench.data.formats.titles import MAX_ID
from bench.disk.storage import write_whole
from bench.errors import ConfigError, DataError
from bench.types import Catalogue, Exam, Identity, IntArray, Ranking

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def write_run(
    ranking: Ranking,
    exam: Exam,
    path: str | Path,
    *,
    identity: Identity = "title",
    tag: str = "bench",
) -> None:
    """Write ``qid Q0 docid rank score tag``, ranks from 1.

    Tools sort by score and break ties in ways of their own. A list's scores are therefore written only
    if they fall strictly; otherwise the score is minus the rank. A failed query has no lines and counts
    as a miss through the qrels.

    Args:
        ranking: the lists, in the order of the exam.
        exam: the queries.
        path: the file to write.
        identity: what counts as one document.
        tag: name of the run, one word.

    Raises:
        ConfigError: the tag is no single word, or the list goes on by chance and has no fixed form.
    """
    assert len(ranking) == len(exam), "one list a query"
    if not tag or len(tag.split()) != 1:
        raise ConfigError(f"the tag of a run is one word, got {tag!r}")
    if ranking.tail is not None:
        raise ConfigError("this list goes on by chance and has an expectation only; draw it first")
    key = _documents(exam, identity)
    failed_Q = np.zeros(len(exam), bool) if ranking.failed_Q is None else ranking.failed_Q
    word = _words(exam.queries.catalogue)
    lines = []
    for row in np.flatnonzero(~np.asarray(failed_Q, bool)).tolist():
        item_K, score_K = _distinct(ranking, row, key)
        for rank, (item, score) in enumerate(zip(item_K, score_K, strict=True), 1):
            lines.append(f"{row} Q0 {word[item]} {rank} {score!r} {tag}\n")
    text = "".join(lines)
    write_whole(Path(path), lambda part: part.write_text(text, encoding="utf-8", newline=""))


def write_qrels(exam: Exam, path: str | Path, *, identity: Identity = "title") -> None:
    """Write ``qid 0 docid 1``, one line a query.

    Args:
        exam: queries and answers.
        path: the file to write.
        identity: as for the run.
    """
    target_Q = _documents(exam, identity)[exam.target_Q].tolist()
    word = _words(exam.queries.catalogue)
    lines = (f"{row} 0 {word[target]} 1\n" for row, target in enumerate(target_Q))
    text = "".join(lines)
    write_whole(Path(path), lambda part: part.write_text(text, encoding="utf-8", newline=""))


def _words(catalogue: Catalogue) -> list[str]:
    """What each item is called in a run, by item id: one word, white space as ``%20``."""
    names = [catalogue.item_name(item) for item in range(catalogue.n_items + 1)]
    return [re.sub(r"[\s%]", lambda found: quote(found[0]), name) for name in names]


def _items(catalogue: Catalogue | None) -> dict[str, str]:
    """Item ids, as text, by what the items are called in a run."""
    words = [] if catalogue is None else _words(catalogue)
    return {word: str(item) for item, word in enumerate(words) if item}


def _documents(exam: Exam, identity: Identity) -> IntArray:
    """Document id by item id, int [N + 1]."""
    catalogue = exam.queries.catalogue
    return catalogue.title_class if identity == "title" else np.arange(catalogue.n_items + 1)


def _distinct(ranking: Ranking, row: int, key: IntArray) -> tuple[list[int], list[float]]:
    """Documents of one list without padding and repeats, and scores that fall strictly."""
    document_K = key[ranking.item_QK[row]]
    _, first = np.unique(document_K, return_index=True)
    kept = np.sort(first)
    kept = kept[document_K[kept] > 0]
    score_K = -np.arange(1.0, len(kept) + 1)
    if ranking.score_QK is not None:
        own_K = np.asarray(ranking.score_QK[row], np.float64)[kept]
        if np.isfinite(own_K).all() and (np.diff(own_K) < 0).all():
            score_K = own_K
    return document_K[kept].tolist(), score_K.tolist()


def read_run(path: str | Path, n_queries: int, catalogue: Catalogue | None = None) -> Ranking:
    """Read a run back: lists by falling score, equal scores by rank.

    Args:
        path: a run of ours, queries called 0 .. n_queries - 1.
        n_queries: how many lists to return; those without a line are marked as failed.
        catalogue: the items, where documents are called by their own ids and not by number.

    Raises:
        DataError: a line is not of six fields of the right kind, or names a query or an item out of range.
    """
    found: list[list[tuple[float, int, int]]] = [[] for _ in range(n_queries)]
    own = _items(catalogue)
    for number, fields in _rows(path, 6):
        fields[2] = own.get(fields[2], fields[2])
        query, item, rank, score = _parsed(path, number, fields, (0, 2, 3), 4)
        _check_item(path, number, item, catalogue)
        if not 0 <= query < n_queries:
            raise DataError(f"{path}, line {number}: query {query} is not in 0..{n_queries - 1}")
        found[int(query)].append((-score, int(rank), int(item)))
    width = max((len(entries) for entries in found), default=0)
    item_QK = np.zeros((n_queries, width), np.int32)
    score_QK = np.full((n_queries, width), -np.inf)
    for row, entries in enumerate(found):
        for column, (minus, _, item) in enumerate(sorted(entries)):
            item_QK[row, column], score_QK[row, column] = item, -minus
    failed_Q = np.array([not entries for entries in found])
    return Ranking(item_QK, score_QK, failed_Q=failed_Q if failed_Q.any() else None)


def read_qrels(path: str | Path, catalogue: Catalogue | None = None) -> IntArray:
    """Read the one relevant document of each query, int32 [Q].

    Args:
        path: qrels of ours.
        catalogue: the items, where documents are called by their own ids and not by number.

    Raises:
        DataError: a line is not of four whole numbers, names an item out of range, or queries are not
            0, 1, 2 ... once each.
    """
    target: dict[int, int] = {}
    own = _items(catalogue)
    for number, fields in _rows(path, 4):
        fields[2] = own.get(fields[2], fields[2])
        query, item, grade, _ = _parsed(path, number, fields, (0, 2, 3), 3)
        _check_item(path, number, item, catalogue)
        if grade > 0:
            if query in target:
                raise DataError(f"{path}, line {number}: query {query} has a second answer")
            target[int(query)] = int(item)
    if sorted(target) != list(range(len(target))):
        raise DataError(f"{path}: queries must be 0..{len(target) - 1}, once each")
    return np.array([target[row] for row in range(len(target))], np.int32)


def _rows(path: str | Path, width: int) -> list[tuple[int, list[str]]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    rows = [
        (number, line.split()) for number, line in enumerate(text.split("\n"), 1) if line.strip()
    ]
    for number, fields in rows:
        if len(fields) != width:
            raise DataError(f"{path}, line {number}: {len(fields)} fields, {width} are needed")
    return rows


def _parsed(
    path: str | Path, number: int, fields: list[str], whole: tuple[int, int, int], real: int
) -> tuple[int, int, int, float]:
    for place in whole:
        if not _WHOLE.fullmatch(fields[place]):
            raise DataError(
                f"{path}, line {number}: {short(fields[place])} is not a whole number of at most 18 digits"
            )
    first, second, third = (int(fields[place]) for place in whole)
    try:
        value = float(fields[real])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}, line {number}: {short(fields[real])} is not a finite number")
    return first, second, third, value


def _check_item(path: str | Path, line: int, item: int, catalogue: Catalogue | None) -> None:
    most = MAX_ID if catalogue is None else catalogue.n_items
    if not 1 <= item <= most:
        raise DataError(f"{path}, line {line}: item {item} is not in 1..{most}")
