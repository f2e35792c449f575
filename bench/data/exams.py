"""Rows as exams and back, validation carved out of train, and the catalogue at a point in time."""

from __future__ import annotations

import numpy as np

from bench.errors import DataError
from bench.types import BoolArray, Exam, IntArray, Queries, Split, Windows

NEVER = np.iinfo(np.int64).max


def exam(windows: Windows) -> Exam:
    """The same rows as queries with answers."""
    queries = Queries(windows.catalogue, windows.user_W, windows.history, windows.timestamp_W)
    return Exam(queries, windows.target_W)


def rows_of(exam: Exam) -> Windows:
    """Undo ``exam``: the rows with their targets, for audits and writers."""
    q = exam.queries
    return Windows(q.catalogue, q.user_Q, q.history, exam.target_Q, q.timestamp_Q)


def carve_valid(train: Windows, test: Exam, parts: int = 8) -> tuple[Split, str]:
    """Take validation from the end of train where none is published.

    The last ``1/parts`` of the rows by target time (an eighth of train is a tenth of all windows when
    train is eight tenths), stable among equal times. Both results stay in file order.

    Returns:
        What is left of train with both exams, and a note with the counts.

    Raises:
        DataError: train is too short to spare a row.
    """
    n_valid = len(train) // parts
    if n_valid == 0:
        raise DataError(f"cannot carve 1/{parts} of {len(train)} training rows for validation")
    order = np.argsort(train.timestamp_W, kind="stable")
    kept, carved = np.sort(order[:-n_valid]), np.sort(order[-n_valid:])
    note = (
        f"no validation file is published: the last {n_valid} of {len(train)} training rows by time "
        f"are held out for validation, {len(kept)} rows are left to train on"
    )
    return Split(train.take(kept), exam(train.take(carved)), test, uncut=train), note


def first_seen(split: Split) -> IntArray:
    """When each item first occurs in any part of the data, int64 [N + 1]; ``NEVER`` if it does not.

    A window tells the time of its target alone; an item in a history is dated by the earliest window
    that shows it, which is late by at most the time to that user's next windowed event. This reads test
    targets, so it belongs to a runner or an audit, never to a method.
    """
    first_N = np.full(split.train.n_items + 1, NEVER)
    for part in (split.train, rows_of(split.valid), rows_of(split.test)):
        sequences = part.sequences
        np.minimum.at(first_N, sequences.values, np.repeat(part.timestamp_W, sequences.lengths))
    first_N[0] = NEVER
    return first_N


def known_at(first_seen_N: IntArray, timestamp_Q: IntArray) -> BoolArray:
    """The catalogue at time t: which items had occurred by the time of each query, bool [Q, N + 1].

    "By" includes the moment itself, so a target is always a candidate of its own query. One byte an
    entry; pass slices of the queries where Q times N is too large.
    """
    known_QN = first_seen_N[None, :] <= timestamp_Q[:, None]
    known_QN[:, 0] = False
    return known_QN
