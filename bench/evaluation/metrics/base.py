"""What a metric is, and how one is found by its name: ``ndcg@10`` is the metric ``ndcg`` cut at ten.

A metric is a class with one method, registered in one file::

    @metrics.register("mrr")
    class MRR(PositionMetric):
        label, shown = "MRR", (10,)

        def weight(self, rank_K):
            return 1.0 / rank_K

Tables, ``compare``, ``claims`` and ``api.rows`` then have it for every row there is, as they compute it from
the packed positions and lists. A plugin registers one in the same way (``--plugin my_metric.py``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from bench.cell import CUTOFFS, K
from bench.errors import UnknownName
from bench.evaluation.lists import Lists
from bench.registry import Registry, near
from bench.types import FloatArray, IntArray

metrics: Registry[type[PositionMetric] | type[ListMetric]] = Registry(
    "metric", "metrics", ("bench.evaluation.metrics",)
)


class _Metric:
    """The base class of all metrics.

    Attributes:
        name: set by the registry.
        label: heading of its columns, before ``@k``.
        shown: the cutoffs at which tables for people show it; CSV has it at every cutoff of the protocol.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    shown: ClassVar[tuple[int, ...]] = (K,)


class PositionMetric(_Metric, ABC):
    """A metric of where the one target of a query is in its list.

    A query whose target has rank r, counted from 1, is worth ``weight(r)`` if r is at most k, else 0; the
    metric is the mean over queries. Expectations over lists that go on by chance follow from the weights.
    """

    @abstractmethod
    def weight(self, rank_K: IntArray) -> FloatArray:
        """Worth of a target at each rank, float [k], between 0 and 1.

        Args:
            rank_K: the ranks 1 to k.
        """


class ListMetric(_Metric, ABC):
    """A metric of what is recommended, whatever the targets: coverage, novelty, concentration."""

    @abstractmethod
    def value(self, lists: Lists) -> float:
        """The metric of lists that are cut at k and name at least one title."""


def find(name: str) -> tuple[type[PositionMetric] | type[ListMetric], int]:
    """The metric and the cutoff behind a name such as ``ndcg@10``.

    Raises:
        UnknownName: no such metric, or a cutoff beyond the positions that are kept.
    """
    kind, _, cutoff = name.partition("@")
    k = int(cutoff) if cutoff.isdecimal() else 0
    if kind not in metrics or not 1 <= k <= K:
        known = [f"{known}@{K}" for known in metrics]
        raise UnknownName(f"no metric is called {name!r}; k is 1 to {K}.{near(name, known)}")
    return metrics.get(kind), k


def weights(name: str) -> FloatArray:
    """Worth of a target at each rank, float [k].

    Args:
        name: of a metric of positions, e.g. ``ndcg@10``.

    Raises:
        UnknownName: there is no such metric, or it has no value by query.
    """
    metric, k = find(name)
    if not issubclass(metric, PositionMetric):
        known = ", ".join(position_names((K,)))
        raise UnknownName(
            f"{name} is a metric of all lists together and has no value by query; with one: {known}"
        )
    return metric().weight(np.arange(1, k + 1))


def position_names(cutoffs: Sequence[int] = CUTOFFS) -> list[str]:
    """Names of every metric of positions at each cutoff, e.g. ``ndcg@10``."""
    return [f"{kind}@{k}" for kind in metrics if _of(kind, PositionMetric) for k in cutoffs]


def list_names(cutoffs: Sequence[int] = CUTOFFS) -> list[str]:
    """Names of every metric of lists at each cutoff, e.g. ``coverage@10``."""
    return [f"{kind}@{k}" for kind in metrics if _of(kind, ListMetric) for k in cutoffs]


def _of(kind: str, base: type) -> bool:
    return issubclass(metrics.get(kind), base)
