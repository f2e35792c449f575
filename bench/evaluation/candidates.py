"""Catalogue-at-time-t: only items that had occurred by the time of a query are candidates.

A published catalogue holds items that came out long after a query was asked; a method that ranks all of them
may win by naming the new ones. The switch ``--candidates known`` takes them away. It is a protocol of its own
(``1+known``), so no table mixes it with the whole catalogue.
"""

from __future__ import annotations

import numpy as np

from bench.cell import PROTOCOL
from bench.data.exams import known_at
from bench.errors import Unavailable
from bench.evaluation.checks import check_ranking
from bench.method import Method
from bench.types import BoolArray, IntArray, Queries, Ranking

KNOWN = f"{PROTOCOL}+known"
CHOICES = {"all": PROTOCOL, "known": KNOWN}
AT_ONCE = 8_000_000  # entries of a full ranking held at a time


def recommend_known(method: Method, queries: Queries, k: int, first_seen_N: IntArray) -> Ranking:
    """The best ``k`` among the items known at the time of each query, from the method's full ranking.

    Args:
        method: fitted; it must be able to rank the whole catalogue.
        queries: histories with their times.
        k: length of the lists.
        first_seen_N: when each item first occurred, unix seconds, int64 [N + 1].

    Raises:
        Unavailable: the method cannot rank everything (a decoder, or a list that goes on by chance).
    """
    if method.identity == "title":
        raise Unavailable("--candidates known needs a full ranking, which decoders do not give")
    n_items = queries.catalogue.n_items
    step = max(AT_ONCE // n_items, 1)
    parts = []
    for start in range(0, len(queries), step):
        part = queries.take(np.arange(start, min(start + step, len(queries))))
        ranking = method.recommend(part, n_items)
        if ranking.tail is not None:
            raise Unavailable(
                "--candidates known needs a full ranking, not one that ends in chance"
            )
        check_ranking(ranking, part, n_items, n_items)
        parts.append(_first_known(ranking.item_QK, known_at(first_seen_N, part.timestamp_Q), k))
    return Ranking(np.concatenate(parts) if parts else np.zeros((0, k), np.int32))


def _first_known(item_QK: IntArray, known_QN: BoolArray, k: int) -> IntArray:
    """The first k known items of each list, in its order, 0 where there are fewer."""
    kept_QK = np.take_along_axis(known_QN, item_QK.astype(np.int64), 1)
    first_QK = np.argsort(~kept_QK, axis=1, kind="stable")[:, :k]
    items = np.take_along_axis(item_QK, first_QK, 1)
    return np.where(np.take_along_axis(kept_QK, first_QK, 1), items, 0).astype(np.int32)
