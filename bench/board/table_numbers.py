"""The statistics of one table: means, intervals and ranks, computed once and kept until a row changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.board.entry import Entry, gain_by_seed, mean_luck
from bench.cell import HEADLINE
from bench.results.cache import Cache, key_of
from bench.results.figures import ITEM, TITLE
from bench.results.packed import seal_of
from bench.significance.bootstrap import resample
from bench.significance.ranks import Ranks, tie_groups
from bench.types import FloatArray

BY_ID = frozenset({"traditional", "enhanced"})  # families that the paper scores by id, not by title
PUBLISHED_DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Estimate:
    """Means of several entries with their 95 % intervals, float64 [M] each."""

    mean_M: FloatArray
    low_M: FloatArray
    high_M: FloatArray


@dataclass(frozen=True, eq=False)
class TableNumbers:
    """Statistics of the M entries of a table that have numbers, in the order they were given.

    Attributes:
        estimate: of the headline metric, by title.
        se_M: standard errors of its means.
        ranks: from all pairs of the table.
        as_paper: of the headline metric, scored as the paper scores each entry's family.
    """

    estimate: Estimate
    se_M: FloatArray
    ranks: Ranks
    as_paper: Estimate


def table_numbers(entries: Sequence[Entry], cache: Cache) -> TableNumbers:
    """The statistics of one table.

    Args:
        entries: those that have numbers, examined on the same queries.
        cache: where they may lie from an earlier call.
    """
    seals = ["|".join([entry.family, *map(seal_of, entry.paths)]) for entry in entries]
    name = key_of(["table", HEADLINE, *seals])
    stored = cache.load(name)
    if stored is not None and (known := _unpack(stored, len(entries))):
        return known
    numbers = _compute(entries)
    cache.save(name, _pack(numbers))
    return numbers


def _compute(entries: Sequence[Entry]) -> TableNumbers:
    gain_MSQ, luck_M = [], []
    for entry in entries:
        positions = entry.positions()
        gain_MSQ.append(gain_by_seed(positions, HEADLINE))
        luck_M.append(mean_luck(positions, HEADLINE))
    draws = resample(gain_MSQ, entries[0].user_Q, luck_M=luck_M)
    ends = [draws.interval(m) for m in range(len(entries))]
    estimate = Estimate(
        draws.mean_M, np.array([e[0] for e in ends]), np.array([e[1] for e in ends])
    )
    del gain_MSQ
    as_paper = as_published(entries, (HEADLINE,))[HEADLINE]
    return TableNumbers(estimate, draws.se_M, tie_groups(draws), as_paper)


def as_published(entries: Sequence[Entry], names: Sequence[str]) -> dict[str, Estimate]:
    """Metrics of entries with their intervals, scored as the paper scores each one's family.

    The released code takes a language model's answer for right if the title is; its other models are
    compared by id.

    Args:
        entries: examined on the same queries.
        names: of metrics of positions.
    """
    gain_MSQ: list[FloatArray] = []
    for entry in entries:
        positions = entry.positions(ITEM if entry.family in BY_ID else TITLE)
        gain_MSQ += [gain_by_seed(positions, name) for name in names]
    draws = resample(gain_MSQ, entries[0].user_Q, draws=PUBLISHED_DRAWS)
    ends_ME = np.array([draws.interval(m) for m in range(len(gain_MSQ))])
    step = len(names)
    return {
        name: Estimate(draws.mean_M[i::step], ends_ME[i::step, 0], ends_ME[i::step, 1])
        for i, name in enumerate(names)
    }


def _pack(numbers: TableNumbers) -> dict[str, Any]:
    ranks = numbers.ranks
    return {
        **{f"title.{end}": getattr(numbers.estimate, end) for end in ENDS},
        **{f"paper.{end}": getattr(numbers.as_paper, end) for end in ENDS},
        "se_M": numbers.se_M,
        "first_M": ranks.first_M,
        "last_M": ranks.last_M,
        "p_MM": ranks.p_MM,
    }


ENDS = ("mean_M", "low_M", "high_M")


def _unpack(stored: Mapping[str, Any], n_entries: int) -> TableNumbers | None:
    try:
        title, paper = (
            Estimate(*(stored[f"{kind}.{end}"] for end in ENDS)) for kind in ("title", "paper")
        )
        ranks = Ranks(stored["first_M"], stored["last_M"], stored["p_MM"])
    except KeyError:
        return None
    if len(title.mean_M) != n_entries:
        return None
    return TableNumbers(title, stored["se_M"], ranks, paper)
