"""Strata: groups of test queries that are worth a mean of their own, such as cold targets.

Every partition splits the queries without overlap and without rest, so stratum means weighted by their
sizes give the whole back. numpy only. Axes: Q queries, N items.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from bench.evaluation.series import in_series
from bench.types import BoolArray, Exam, IntArray, Split

PARTITIONS: Mapping[str, tuple[str, ...]] = {
    "target": ("warm", "cold"),
    "popularity": ("head", "mid", "tail"),
    "history": ("history_short", "history_medium", "history_full"),
    "repeat": ("repeat", "new_to_user"),
    "user": ("user_seen", "user_unseen"),
    "title": ("title_old", "title_new"),
    "series": ("series", "no_series"),
    "day": ("same_day", "later_day", "day_unknown"),
}
SHORT, FULL = 4, 10  # items of history; published windows hold at most ten
DAY = 86_400  # seconds; days are those of UTC


def strata(exam: Exam, split: Split) -> dict[str, BoolArray]:
    """Which queries belong to which stratum, bool [Q] by name.

    - ``warm`` / ``cold``: the target occurs anywhere in the training windows, or nowhere. An ID model
      cannot name a cold target, so the warm share is its ceiling.
    - ``head`` / ``mid`` / ``tail``: by occurrences of the target as a training target: items are ordered by
      count (ties by id); head is the most popular items that make up half of all training targets, mid
      the next 30 %, tail the rest, items never trained on included.
    - ``history_short`` (at most 4 items), ``history_medium``, ``history_full`` (10 or more).
    - ``repeat`` / ``new_to_user``: the target is in its own history, or not.
    - ``user_seen`` / ``user_unseen``: the user has training rows, or none.
    - ``title_old`` / ``title_new``: some item with the target's title occurs in the training windows, or none
      does.
    - ``series`` / ``no_series``: the target's title shares a stem with a title of the history
      (``bench.evaluation.series``), or with none.
    - ``same_day`` / ``later_day`` / ``day_unknown``: the target was bought on the day (UTC) of the last
      history item, on a later one, or no window tells when that item was bought.

    Args:
        exam: queries and targets, of the split's test rows.
        split: the dataset's rows.
    """
    train = split.train
    history = exam.queries.history
    warm_Q = train.seen[exam.target_Q]
    band_Q = _band(train.target_count)[exam.target_Q]
    length_Q = history.lengths
    owner = np.repeat(np.arange(len(exam)), length_Q)
    repeat_Q = np.zeros(len(exam), bool)
    repeat_Q[owner[history.values == np.asarray(exam.target_Q)[owner]]] = True
    known_Q = np.isin(exam.queries.user_Q, train.user_W)
    class_N = exam.queries.catalogue.title_class
    title_old_Q = np.isin(class_N[exam.target_Q], class_N[train.seen])
    series_Q = in_series(exam)
    bought_Q, time_Q = _last_bought(exam, split), exam.queries.timestamp_Q
    dated_Q = bought_Q >= 0
    same_Q = dated_Q & (bought_Q // DAY == time_Q // DAY)
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
        "title_old": title_old_Q,
        "title_new": ~title_old_Q,
        "series": series_Q,
        "no_series": ~series_Q,
        "same_day": same_Q,
        "later_day": dated_Q & ~same_Q,
        "day_unknown": ~dated_Q,
    }


def _last_bought(exam: Exam, split: Split) -> IntArray:
    """When the last history item was bought, unix seconds, -1 where no window tells, int64 [Q].

    A window dates its target alone, so the time is that of the user's latest window up to the query's time
    whose target is that item. A target that repeats the last item dates itself and is not counted.
    """
    train = split.train if split.uncut is None else split.uncut
    parts: Sequence[tuple[IntArray, ...]] = (
        (train.user_W, train.target_W, train.timestamp_W),
        *((e.queries.user_Q, e.target_Q, e.queries.timestamp_Q) for e in (split.valid, split.test)),
    )
    times: dict[tuple[int, int], list[int]] = defaultdict(list)
    for part in parts:
        for user, item, time in zip(*(column.tolist() for column in part), strict=True):
            times[user, item].append(time)
    bought = []
    queries = exam.queries
    asked = (queries.user_Q, queries.last_Q, queries.timestamp_Q, exam.target_Q)
    for user, last, time, target in zip(*(column.tolist() for column in asked), strict=True):
        known = sorted(times.get((user, last), ()))
        place = bisect_right(known, time) - (target == last)
        bought.append(known[place - 1] if place > 0 else -1)
    return np.array(bought, np.int64)


def _band(count: IntArray) -> IntArray:
    """0 head, 1 mid, 2 tail by item id, from training counts, int [N + 1]."""
    order = np.lexsort((np.arange(len(count)), -count))
    before = np.cumsum(count[order]) - count[order]
    share = before / max(int(count.sum()), 1)
    band = np.empty(len(count), np.int64)
    band[order] = np.searchsorted([0.5, 0.8], share, side="right")
    return np.where(count > 0, band, 2)
