"""Metrics of positions by query, their means, and their variance over lists drawn by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.cell import CUTOFFS
from bench.evaluation.metrics.base import position_names, weights
from bench.evaluation.metrics.counts import rank_counts
from bench.evaluation.positions import MISSING, Positions, positions
from bench.types import Exam, FloatArray, Identity, IntArray, Ranking


def gain(positions: Positions, name: str) -> FloatArray:
    """One metric by query, float64 [Q]; a random tail counts with its expectation.

    Args:
        positions: of the targets.
        name: of a metric of positions, e.g. ``ndcg@10``.
    """
    weight_K = weights(name)
    by_rank = np.zeros(MISSING + 1)
    by_rank[: len(weight_K)] = weight_K
    return by_rank[positions.position_Q] + _expected(positions, weight_K)


def gains(positions: Positions, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, FloatArray]:
    """Every metric of positions by query, float64 [Q] each, by name.

    Args:
        positions: of the targets.
        cutoffs: where each metric is cut.
    """
    return {name: gain(positions, name) for name in position_names(cutoffs)}


def luck(positions: Positions, name: str) -> float:
    """Variance of a metric's mean over draws of the random tail; 0 for lists without one.

    With w the weights of the ranks, one draw has variance E[w^2] - E[w]^2; queries are drawn independently.

    Args:
        positions: of the targets.
        name: of a metric of positions, e.g. ``ndcg@10``.
    """
    weight_K = weights(name)
    variance_Q = _expected(positions, weight_K**2) - _expected(positions, weight_K) ** 2
    return float(np.sum(variance_Q)) / max(len(positions), 1) ** 2


def _expected(positions: Positions, weight_K: FloatArray) -> FloatArray | float:
    """What the random tail adds on average, float64 [Q]: its weights times the chance of each."""
    if positions.chance_Q is None:
        return 0.0
    start_Q, stop_Q, chance_Q = positions.random_ranks
    start_Q, stop_Q = (np.minimum(ends_Q, len(weight_K)) for ends_Q in (start_Q, stop_Q))
    total = np.concatenate([[0.0], np.cumsum(weight_K)])
    return (total[stop_Q] - total[start_Q]) * chance_Q


def means(positions: Positions, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Mean of every metric of positions over all queries; 0 for an exam without queries.

    Args:
        positions: of the targets.
        cutoffs: where each metric is cut.
    """
    counts = rank_counts(positions)
    return {name: counts.mean(name) for name in position_names(cutoffs)}


def evaluate(
    ranking: Ranking,
    exam: Exam,
    *,
    identity: Identity = "title",
    train_count: IntArray,
    names: Identity = "item",
) -> dict[str, float]:
    """Mean of every metric of positions over all queries, failed ones counted as misses.

    Args:
        ranking: the lists; queries in the order of the exam.
        exam: queries and targets.
        identity: what counts as the target: its title or its very id.
        train_count: occurrences in training by item id, int [N + 1].
        names: what the lists name, ``Method.identity``.
    """
    return means(positions(ranking, exam, identity=identity, train_count=train_count, names=names))
