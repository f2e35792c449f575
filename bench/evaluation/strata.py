"""Strata: groups of test queries that are worth a mean of their own, such as cold targets.

Every partition splits the queries without overlap and without rest, so stratum means weighted by their
sizes give the whole back. numpy only. Axes: Q queries, N items.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.types import BoolArray, Exam, IntArray, Windows

PARTITIONS: Mapping[str, tuple[str, ...]] = {
    "target": ("warm", "cold"),
    "popularity": ("head", "mid", "tail"),
    "history": ("history_short", "history_medium", "history_full"),
    "repeat": ("repeat", "new_to_user"),
    "user": ("user_seen", "user_unseen"),
}
SHORT, FULL = 4, 10  # items of history; published windows hold at most ten


def strata(exam: Exam, train: Windows) -> dict[str, BoolArray]:
    """Which queries belong to which stratum, bool [Q] by name.

    - ``warm`` / ``cold``: the target occurs anywhere in the training windows, or nowhere. An ID model
      cannot name a cold target, so the warm share is its ceiling.
    - ``head`` / ``mid`` / ``tail``: by occurrences of the target as a training target: items are ordered by
      count (ties by id); head is the most popular items that make up half of all training targets, mid
      the next 30 %, tail the rest, items never trained on included.
    - ``history_short`` (at most 4 items), ``history_medium``, ``history_full`` (10 or more).
    - ``repeat`` / ``new_to_user``: the target is in its own history, or not.
    - ``user_seen`` / ``user_unseen``: the user has training rows, or none.

    Args:
        exam: queries and targets.
        train: the training windows of the dataset.
    """
    history = exam.queries.history
    warm_Q = train.seen[exam.target_Q]
    band_Q = _band(train.target_count)[exam.target_Q]
    length_Q = history.lengths
    owner = np.repeat(np.arange(len(exam)), length_Q)
    repeat_Q = np.zeros(len(exam), bool)
    repeat_Q[owner[history.values == np.asarray(exam.target_Q)[owner]]] = True
    known_Q = np.isin(exam.queries.user_Q, train.user_W)
    return {
        "warm": warm_Q,
        "cold": ~warm_Q,
        "head": band_Q == 0,
        "mid": band_Q == 1,
        "tail": band_Q == 2,
        "history_short": length_Q <= SHORT,
        "history_medium": (length_Q > SHORT) & (length_Q < FULL),
        "history_full": length_Q >= FULL,
        "repeat": repeat_Q,
        "new_to_user": ~repeat_Q,
        "user_seen": known_Q,
        "user_unseen": ~known_Q,
    }


def _band(count: IntArray) -> IntArray:
    """0 head, 1 mid, 2 tail by item id, from training counts, int [N + 1]."""
    order = np.lexsort((np.arange(len(count)), -count))
    before = np.cumsum(count[order]) - count[order]
    share = before / max(int(count.sum()), 1)
    band = np.empty(len(count), np.int64)
    band[order] = np.searchsorted([0.5, 0.8], share, side="right")
    return np.where(count > 0, band, 2)
