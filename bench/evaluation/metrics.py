"""Target positions, and from them hit and NDCG. One scorer for all; numpy only.

A list is read once: where in it is the target? Everything else (hit, NDCG, strata, tests, tables) is
computed from that position, which is small enough to keep beside every row for good. Axes: Q queries,
K list, N items. Sources: identity rules and metrics of the suite's specification, section 0.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.cell import CUTOFFS, K
from bench.errors import ContractError
from bench.types import (
    BoolArray,
    Catalogue,
    Exam,
    FloatArray,
    Identity,
    IntArray,
    Queries,
    RandomTail,
    Ranking,
)

MISSING = 255  # position of a target that is not among the first K


@dataclass(frozen=True, eq=False)
class Positions:
    """Where each target is in its list.

    Attributes:
        position_Q: rank of the target from 0, uint8; 255 where it is not among the first K.
        chance_Q: probability that any one position of the random tail holds the target, float32 [Q];
            None for a list without a random tail. The tail ends once its pool is used up, that is
            after ``1 / chance`` positions.
        start_Q: first position filled by chance, uint8 [Q]; None without a tail.
    """

    position_Q: npt.NDArray[np.uint8]
    chance_Q: npt.NDArray[np.float32] | None = None
    start_Q: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.position_Q)

    def take(self, rows: Any) -> Positions:
        """These queries only; indices or a mask."""
        chance_Q, start_Q = self.chance_Q, self.start_Q
        return Positions(
            self.position_Q[rows],
            None if chance_Q is None else chance_Q[rows],
            None if start_Q is None else start_Q[rows],
        )


def positions(
    ranking: Ranking,
    exam: Exam,
    *,
    identity: Identity,
    train_count: IntArray,
    names: Identity = "item",
) -> Positions:
    """Position of each target in its list, under one of the two rules of identity.

    ``title``: predictions and target become title classes, later repeats of a class are dropped, then the
    list is cut at K. ``item``: ids are compared; a list that names title classes is first spelt out, each
    class as its items by training popularity (ties by id), then cut at K.

    Args:
        ranking: the lists; queries in the order of the exam.
        exam: queries and targets.
        identity: the rule.
        train_count: occurrences in training by item id, int [N + 1]; orders items of one title.
        names: what the lists name, ``Method.identity``.
    """
    assert len(ranking) == len(exam), "one list a query"
    catalogue = exam.queries.catalogue
    item_QK, target_Q = np.asarray(ranking.item_QK), np.asarray(exam.target_Q)
    tail = ranking.tail
    if tail is not None:
        item_QK = np.where(np.arange(item_QK.shape[1]) < tail.start_Q[:, None], item_QK, 0)
    spelt_out = identity == "item" and names == "title"
    key: IntArray = np.arange(catalogue.n_items + 1)
    if identity == "title" or spelt_out:
        key = catalogue.title_class
    key_QK, key_Q = key[item_QK], key[target_Q]
    key_QK = np.where(_repeats(key_QK), 0, key_QK)
    width, extra = (
        _spelling(catalogue, train_count) if spelt_out else (np.ones_like(key), np.zeros_like(key))
    )
    width_QK = np.where(key_QK > 0, width[key_QK], 0)
    found_QK = (key_QK == key_Q[:, None]) & (key_QK > 0)
    column_Q = found_QK.argmax(1)[:, None]
    before_QK = np.cumsum(width_QK, axis=1) - width_QK
    rank_Q = np.take_along_axis(before_QK, column_Q, 1)[:, 0] + extra[target_Q]
    listed_Q = found_QK.any(1) & _generated(ranking)
    position_Q = np.where(listed_Q & (rank_Q < K), rank_Q, MISSING).astype(np.uint8)
    if tail is None:
        return Positions(position_Q)
    target_key_Q = target_Q if spelt_out else key_Q
    pool_size, in_pool_Q = _pool(tail, key, target_key_Q, spelt_out=spelt_out)
    left_Q = pool_size.sum() - pool_size[key_QK].sum(1, where=key_QK > 0)
    drawn_Q = in_pool_Q & ~found_QK.any(1) & _generated(ranking)
    chance_Q = np.where(drawn_Q, 1.0 / np.maximum(left_Q, 1), 0.0).astype(np.float32)
    start_Q = np.minimum(width_QK.sum(1), K).astype(np.uint8)
    return Positions(position_Q, chance_Q, start_Q)


def _generated(ranking: Ranking) -> BoolArray:
    if ranking.failed_Q is None:
        return np.ones(len(ranking), bool)
    return ~np.asarray(ranking.failed_Q, bool)


def _repeats(key_QK: IntArray) -> BoolArray:
    """Entries that name something named earlier in the same row."""
    order_QK = np.argsort(key_QK, axis=1, kind="stable")
    sorted_QK = np.take_along_axis(key_QK, order_QK, 1)
    repeat_QK = np.zeros(key_QK.shape, bool)
    repeat_QK[:, 1:] = sorted_QK[:, 1:] == sorted_QK[:, :-1]
    back_QK = np.empty_like(repeat_QK)
    np.put_along_axis(back_QK, order_QK, repeat_QK, 1)
    return back_QK


def _spelling(catalogue: Catalogue, train_count: IntArray) -> tuple[IntArray, IntArray]:
    """Items in each title class, by class, and each item's place among them, both int [N + 1]."""
    title_class = catalogue.title_class
    ids = np.arange(len(title_class))
    order = np.lexsort((ids, -np.asarray(train_count), title_class))
    width = np.bincount(title_class, minlength=len(ids))
    first = np.cumsum(width) - width
    place = np.empty_like(ids)
    place[order] = ids - first[title_class[order]]
    return width, place


def _pool(
    tail: RandomTail, key: IntArray, target_key_Q: IntArray, *, spelt_out: bool
) -> tuple[IntArray, BoolArray]:
    """How many draws each key stands for in the pool, by key, and whether the target is in the pool.

    Titles are drawn where titles are compared, so a class counts once however many items it has.
    """
    drawable = np.asarray(tail.pool, bool).copy()
    drawable[0] = False
    count = np.bincount(key[drawable], minlength=len(key))
    if spelt_out:
        return count, drawable[target_key_Q]
    return np.minimum(count, 1), count[target_key_Q] > 0


def gains(positions: Positions, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, FloatArray]:
    """Per-query ``ndcg@k`` and ``hit@k``, float64 [Q] each.

    One target a query, so hit@k = [rank < k] and ndcg@k = [rank < k] / log2(rank + 2) with ranks from 0;
    a missing target scores 0. A random tail scores its expectation.
    """
    rank_Q = positions.position_Q.astype(np.int64)
    result: dict[str, FloatArray] = {}
    for k in cutoffs:
        assert 1 <= k <= K, f"cutoff {k} is beyond the {K} positions that are kept"
        discount = 1.0 / np.log2(np.arange(k) + 2.0)
        for name, weight in (("ndcg", discount), ("hit", np.ones(k))):
            by_rank = np.zeros(MISSING + 1)
            by_rank[:k] = weight
            result[f"{name}@{k}"] = by_rank[rank_Q] + _expected(positions, weight)
    return result


def luck(positions: Positions, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Variance of each mean gain over draws of the random tail; 0 for lists without one."""
    found: dict[str, float] = {}
    for k in cutoffs:
        discount = 1.0 / np.log2(np.arange(k) + 2.0)
        for name, weight in (("ndcg", discount), ("hit", np.ones(k))):
            variance_Q = _expected(positions, weight**2) - _expected(positions, weight) ** 2
            found[f"{name}@{k}"] = float(np.sum(variance_Q)) / max(len(positions), 1) ** 2
    return found


def _expected(positions: Positions, weight: FloatArray) -> FloatArray | float:
    """What the random tail adds on average, float64 [Q]."""
    if positions.chance_Q is None or positions.start_Q is None:
        return 0.0
    chance_Q = positions.chance_Q.astype(np.float64)
    drawn = chance_Q > 0
    left_Q = np.rint(1.0 / np.where(drawn, chance_Q, 1.0)).astype(np.int64)
    k = len(weight)
    start_Q = np.minimum(positions.start_Q.astype(np.int64), k)
    stop_Q = np.minimum(start_Q + left_Q, k)
    total = np.concatenate([[0.0], np.cumsum(weight)])
    return np.where(drawn, (total[stop_Q] - total[start_Q]) / left_Q, 0.0)


def means(positions: Positions, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Mean of every gain over all queries; 0 for an exam without queries."""
    return {
        name: float(gain_Q.mean()) if len(gain_Q) else 0.0
        for name, gain_Q in gains(positions, cutoffs).items()
    }


def evaluate(
    ranking: Ranking,
    exam: Exam,
    *,
    identity: Identity = "title",
    train_count: IntArray,
    names: Identity = "item",
) -> dict[str, float]:
    """Mean ``ndcg@k`` and ``hit@k`` for k = 1, 5, 10 over all queries, failed ones counted as misses."""
    return means(positions(ranking, exam, identity=identity, train_count=train_count, names=names))


def check_ranking(ranking: Ranking, queries: Queries, k: int, n_items: int) -> None:
    """Refuse lists that no metric should be computed from.

    Raises:
        ContractError: wrong shape, ids outside 0..N, a zero before the end of a list, a repeated item, a
            score that is not finite or that rises along a list; names the first query at fault.
    """
    item_QK = np.asarray(ranking.item_QK)
    if item_QK.shape != (len(queries), k):
        raise ContractError(f"lists of shape {item_QK.shape}, expected ({len(queries)}, {k})")
    if item_QK.dtype.kind not in "iu":
        raise ContractError(f"item ids of type {item_QK.dtype}, expected integers")
    listed_QK = item_QK != 0
    _refuse((item_QK < 0) | (item_QK > n_items), f"an item id outside 0..{n_items}", item_QK)
    gap_QK = np.zeros_like(listed_QK)
    gap_QK[:, 1:] = listed_QK[:, 1:] & ~listed_QK[:, :-1]
    _refuse(gap_QK, "an empty place before the end of the list", item_QK)
    _refuse(_repeats(item_QK) & listed_QK, "an item twice", item_QK)
    if ranking.score_QK is None:
        return
    score_QK = np.asarray(ranking.score_QK)
    if score_QK.shape != item_QK.shape:
        raise ContractError(f"scores of shape {score_QK.shape}, lists of shape {item_QK.shape}")
    _refuse(~np.isfinite(score_QK) & listed_QK, "a score that is not finite", score_QK)
    rise_QK = np.zeros_like(listed_QK)
    rise_QK[:, 1:] = (score_QK[:, 1:] > score_QK[:, :-1]) & listed_QK[:, 1:]
    _refuse(rise_QK, "a score higher than the one before it", score_QK)


def _refuse(bad_QK: BoolArray, what: str, value_QK: npt.NDArray[Any]) -> None:
    if bad_QK.any():
        query, place = np.argwhere(bad_QK)[0]
        count = int(bad_QK.any(1).sum())
        raise ContractError(
            f"{what} in {count} of {len(bad_QK)} lists; "
            f"first in query {query}, place {place}: {value_QK[query].tolist()}"
        )
