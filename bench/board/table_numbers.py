"""The statistics of one table: means, intervals and ranks, cached until a row changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from bench.board.entry import Entry, gain_by_seed, mean_luck
from bench.cell import HEADLINE
from bench.results.cache import Cache, key_of
from bench.results.figures import ITEM, TITLE
from bench.results.packed import seal_of
from bench.significance.estimate import Estimate
from bench.significance.intervals import ALPHA
from bench.significance.leave_out import without_largest_title
from bench.significance.overall import LogPairs
from bench.significance.power import median_se
from bench.significance.ranks import Ranks
from bench.significance.two_way import two_way
from bench.types import FloatArray, IntArray

BY_ID = frozenset({"traditional", "enhanced"})  # families that the paper scores by id, not by title
Words = npt.NDArray[np.str_]
Part = TypeVar("Part")
INTERVAL = ("mean", "low", "high", "words", "note")


@dataclass(frozen=True, eq=False)
class Means:
    """Means of several entries with their 95 % intervals, one of each an entry.

    Attributes:
        mean_M, low_M, high_M: float64.
        words_M: the population each interval is about, e.g. ``targets like these``.
        note_M: a caveat for the reader; empty if there is none.
    """

    mean_M: FloatArray
    low_M: FloatArray
    high_M: FloatArray
    words_M: Words
    note_M: Words


@dataclass(frozen=True, eq=False)
class AsPaper(Means):
    """Means scored as the paper scores them, with what a comparison with published numbers needs.

    Attributes:
        fit_cv_M: standard deviation of one fit's mean on these rows, as a share of the mean.
        row_cv_M: standard error from users and targets, as a share of the mean, stretched as a t interval is;
            0 where the mean is.
        widening_M: variance over users and targets, divided by that of independent rows.
    """

    fit_cv_M: FloatArray
    row_cv_M: FloatArray
    widening_M: FloatArray


@dataclass(frozen=True, eq=False)
class Stands:
    """How many titles each mean depends on; empty arrays where the rows do not name their targets.

    Attributes:
        hit_M: distinct targets hit.
        top3_M: share of the gain that the three largest make.
        badge_M: see ``Concentration.badge``, with its cause.
        warning_M: how the line's ranks change without the rows of its largest target.
    """

    hit_M: IntArray
    top3_M: FloatArray
    badge_M: Words
    warning_M: Words


@dataclass(frozen=True, eq=False)
class TableNumbers:
    """Statistics of the M entries of a table that have numbers, in the order they were given.

    Attributes:
        means: of the headline metric, by title.
        ranks: from all pairs of the table.
        logs: what the ranks over all datasets need.
        stands: how many titles each mean depends on.
        as_paper: of the headline metric, scored as the paper scores each entry's family.
        median_se: standard error of the middle pair, float64 [1].
    """

    means: Means
    ranks: Ranks
    logs: LogPairs
    stands: Stands
    as_paper: AsPaper
    median_se: FloatArray


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


def compared(
    entries: Sequence[Entry], gain_MSQ: Sequence[FloatArray], luck_M: npt.ArrayLike = 0.0
) -> Estimate:
    """The estimate of entries that were examined on the same queries; floors draw no chance in training.

    Args:
        entries: one for each of ``gain_MSQ``.
        gain_MSQ: gains of all test rows.
        luck_M: variance of each mean over draws of random lists.
    """
    return two_way(
        gain_MSQ,
        entries[0].user_Q,
        targets_of(entries),
        luck_M=luck_M,
        chance_M=[entry.family != "floor" for entry in entries],
        names=[entry.full_name for entry in entries],
    )


def targets_of(entries: Sequence[Entry]) -> IntArray | None:
    """Title class of each target, from the first file that names it; None if none does."""
    found = (entry.first_packed.target_Q for entry in entries)
    return next((target_Q for target_Q in found if target_Q is not None), None)


def _compute(entries: Sequence[Entry]) -> TableNumbers:
    positions = [entry.positions() for entry in entries]
    table = compared(
        entries,
        [gain_by_seed(one, HEADLINE) for one in positions],
        [mean_luck(one, HEADLINE) for one in positions],
    )
    return TableNumbers(
        _means(table),
        table.ranks(),
        LogPairs.of(table),
        _stands(table),
        as_published(entries, (HEADLINE,))[HEADLINE],
        np.array([median_se(table)]),
    )


def _means(table: Estimate) -> Means:
    found = [table.mean(m) for m in range(len(table.mean_M))]
    return Means(*(np.array([getattr(one, part) for one in found]) for part in INTERVAL))


def _stands(table: Estimate) -> Stands:
    found = [table.concentration(m) for m in range(len(table.mean_M))]
    known = [one for one in found if one is not None]
    left = without_largest_title(table) if known else []
    return Stands(
        np.array([one.hit for one in known], np.int64),
        np.array([one.top3 for one in known], np.float64),
        np.array([f"{one.badge} ({one.cause})" if one.badge else "" for one in known], np.str_),
        np.array(
            [
                f"rank {one.rank} without {one.rows} rows" if one and one.changed else ""
                for one in left
            ],
            np.str_,
        ),
    )


def as_published(entries: Sequence[Entry], names: Sequence[str]) -> dict[str, AsPaper]:
    """Metrics of entries with their intervals, scored as the paper scores each one's family.

    The released code takes a language model's answer for right if the title is; its other models are
    compared by id.

    Args:
        entries: examined on the same queries.
        names: of metrics of positions.
    """
    return {name: _as_paper(table) for name, table in published_tables(entries, names).items()}


def published_tables(entries: Sequence[Entry], names: Sequence[str]) -> dict[str, Estimate]:
    """Estimates by metric of entries scored as in ``as_published``.

    Args:
        entries: examined on the same queries.
        names: of metrics of positions.
    """
    positions = [entry.positions(scored_by(entry)) for entry in entries]
    return {
        name: compared(entries, [gain_by_seed(one, name) for one in positions]) for name in names
    }


def scored_by(entry: Entry) -> str:
    """``item`` or ``title``: what the paper compares an entry's family by."""
    return ITEM if entry.family in BY_ID else TITLE


def _as_paper(table: Estimate) -> AsPaper:
    means, rows_M = _means(table), table.of_means.rows
    single = table.sources.cells or table.sources.users
    with np.errstate(divide="ignore", invalid="ignore"):
        # few users or titles make a t interval wide; the comparison takes a normal one
        stretch_M = t.ppf(1 - ALPHA / 2, table.of_means.freedom) / norm.ppf(1 - ALPHA / 2)
        row_cv_M = np.where(table.mean_M > 0, stretch_M * np.sqrt(rows_M) / table.mean_M, 0.0)
        widening_M = rows_M / single.of_means[0]
    known_M = np.isfinite(widening_M)
    middle = float(np.median(widening_M[known_M])) if known_M.any() else 1.0
    return AsPaper(
        means.mean_M,
        means.low_M,
        means.high_M,
        means.words_M,
        means.note_M,
        np.full(len(rows_M), table.fits.one_fit),
        row_cv_M,
        np.where(known_M, widening_M, middle),
    )


def _pack(numbers: TableNumbers) -> dict[str, Any]:
    parts = {part.name: getattr(numbers, part.name) for part in fields(TableNumbers)}
    packed = {"median_se": parts.pop("median_se")}
    for name, part in parts.items():
        packed |= {f"{name}.{field.name}": getattr(part, field.name) for field in fields(part)}
    return packed


def _unpack(stored: Mapping[str, Any], n_entries: int) -> TableNumbers | None:
    def read(name: str, kind: type[Part]) -> Part:
        return kind(*(stored[f"{name}.{field.name}"] for field in fields(kind)))  # type: ignore[arg-type]

    try:
        found = TableNumbers(
            read("means", Means),
            read("ranks", Ranks),
            read("logs", LogPairs),
            read("stands", Stands),
            read("as_paper", AsPaper),
            stored["median_se"],
        )
    except KeyError:
        return None
    return found if len(found.means.mean_M) == n_entries else None
