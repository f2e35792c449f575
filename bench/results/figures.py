"""The numbers of one row as tables show them, computed from the packed file beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.evaluation.metrics import ListMetric, RankCounts, find, list_names, rank_counts
from bench.results.packed import Packed

TITLE, ITEM, VALID = "title", "item", "valid"  # exams by identity; every other name is a stratum


@dataclass(frozen=True, eq=False)
class Figures:
    """Statistics of one packed file that determine all its metrics.

    Attributes:
        counts: how many targets are at each rank, for the test exam by ``title`` and by ``item``, for the
            ``valid`` exam where it is kept, and for each stratum of the test exam, by title.
        lists: metrics of lists by name; empty where there are no lists.
        users: checksum of the users of the queries, equal for rows examined on the same queries.
    """

    counts: Mapping[str, RankCounts]
    lists: Mapping[str, float] = field(default_factory=dict)
    users: str = ""

    @property
    def n(self) -> int:
        """Test queries."""
        return self.counts[TITLE].n

    def mean(self, name: str, of: str = TITLE) -> float | None:
        """One metric; None if the file does not have it or no query counts for it.

        Args:
            name: of a metric with its cutoff, e.g. ``ndcg@10``.
            of: ``title``, ``item``, ``valid`` or a stratum.
        """
        if name in self.lists:
            return self.lists[name] if of == TITLE else None
        counts = self.counts.get(of)
        if counts is None or not counts.n or issubclass(find(name)[0], ListMetric):
            return None
        return counts.mean(name)


def figures_of(packed: Packed) -> Figures:
    """Compute the numbers of a packed file."""
    counts = {TITLE: rank_counts(packed.title), ITEM: rank_counts(packed.item)}
    if packed.valid is not None:
        counts[VALID] = rank_counts(packed.valid)
    counts |= {name: rank_counts(packed.title, mask) for name, mask in packed.masks.items()}
    users = hashlib.sha256(np.asarray(packed.user_Q, "<i8").tobytes()).hexdigest()[:16]
    return Figures(counts, _of_lists(packed), users)


def figures_beside(path: Path) -> Figures | None:
    """The numbers of the row in a file, from the packed file beside it; None if there is none."""
    packed = path.with_suffix(".npz")
    return figures_of(Packed.load(packed)) if packed.exists() else None


def _of_lists(packed: Packed) -> dict[str, float]:
    lists = packed.lists
    # lists that go on by chance have no value of their own, and empty ones have none at all
    if lists is None or lists.by_chance or not len(lists.title_D):
        return {}
    found = {}
    for name in list_names():
        metric, k = find(name)
        assert issubclass(metric, ListMetric), f"{name} is no metric of lists"
        found[name] = metric().value(lists.cut(k))
    return found
