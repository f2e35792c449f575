"""Checks that recommendation lists are well-formed before they are scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import ContractError
from bench.evaluation.positions import repeats
from bench.types import BoolArray, Queries, Ranking


def check_ranking(ranking: Ranking, queries: Queries, k: int, n_items: int) -> None:
    """Refuse recommendation lists that are malformed, before any metric is computed from them.

    Args:
        ranking: the lists.
        queries: what was asked, one list each.
        k: length of the lists.
        n_items: N, the largest item id.

    Raises:
        ContractError: wrong shape, ids outside 0..N, a zero before the end of a list, a repeated item, a
            score that is not finite or that rises along a list, certificates, failures or chances of another
            number of queries; names the first query at fault.
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
    _refuse(repeats(item_QK) & listed_QK, "an item twice", item_QK)
    _check_beside(ranking, n_items)
    if ranking.score_QK is None:
        return
    score_QK = np.asarray(ranking.score_QK)
    if score_QK.shape != item_QK.shape:
        raise ContractError(f"scores of shape {score_QK.shape}, lists of shape {item_QK.shape}")
    _refuse(~np.isfinite(score_QK) & listed_QK, "a score that is not finite", score_QK)
    rise_QK = np.zeros_like(listed_QK)
    rise_QK[:, 1:] = (score_QK[:, 1:] > score_QK[:, :-1]) & listed_QK[:, 1:]
    _refuse(rise_QK, "a score higher than the one before it", score_QK)


def _check_beside(ranking: Ranking, n_items: int) -> None:
    """Refuse what comes beside the lists if it is not one truth value, or one count, a query."""
    n = len(ranking)
    parts: dict[str, tuple[Any, int, str]] = {
        "certified_Q": (ranking.certified_Q, n, "b"),
        "failed_Q": (ranking.failed_Q, n, "b"),
    }
    if ranking.tail is not None:
        parts["tail.start_Q"] = (ranking.tail.start_Q, n, "iu")
        parts["tail.pool"] = (ranking.tail.pool, n_items + 1, "b")
    for name, (given, size, kinds) in parts.items():
        if given is None:
            continue
        array = np.asarray(given)
        if array.shape != (size,) or array.dtype.kind not in kinds:
            expected = "truth values" if kinds == "b" else "whole numbers"
            raise ContractError(
                f"{name} is {array.dtype} of shape {array.shape}, expected {size} {expected}"
            )


def _refuse(bad_QK: BoolArray, what: str, value_QK: npt.NDArray[Any]) -> None:
    if bad_QK.any():
        query, rank = np.argwhere(bad_QK)[0]
        count = int(bad_QK.any(1).sum())
        raise ContractError(
            f"{what} in {count} of {len(bad_QK)} lists; "
            f"first in query {query}, place {rank}: {value_QK[query].tolist()}"
        )


def proven(ranking: Ranking) -> dict[str, float]:
    """As facts of a row: the share of lists proven to be the true ones, and the number that failed."""
    proof: dict[str, float] = {}
    if ranking.certified_Q is not None:
        proof["certified_share"] = float(np.mean(ranking.certified_Q))
    if ranking.failed_Q is not None:
        proof["failed_queries"] = float(np.sum(ranking.failed_Q))
    return proof
