"""The leaderboard of one table: means with intervals, ranks with ties, verdicts, and detectable gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations

from bench.board.entry import Entry
from bench.board.table_numbers import (
    AsPaper,
    TableNumbers,
    as_published,
    published_tables,
    scored_by,
    table_numbers,
)
from bench.cell import HEADLINE, digest
from bench.claims import Ours, Verdict, claims, line_verdicts
from bench.errors import DataError
from bench.results.cache import Cache
from bench.results.table_key import TableKey
from bench.significance.intervals import Difference
from bench.significance.power import detectable_gap


@dataclass(frozen=True, eq=False)
class Line:
    """One configuration with its statistics; ``mean`` and what follows are None unless it is done.

    Attributes:
        entry: the configuration.
        rank: as it is printed.
        middle: middle of its range of ranks.
        mean, low, high: of the headline metric, with its interval.
        verdict: against the published number, if there is one.
        note: what a reader must know of the interval or the rank.
    """

    entry: Entry
    rank: str = ""
    middle: float = float("inf")
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict | None = None
    note: str = ""

    @property
    def floor(self) -> bool:
        """Whether this is a floor, shown as a group of its own."""
        return self.entry.family == "floor"


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """One table's lines in order: by NDCG@10, then those without numbers by name.

    Attributes:
        numbers: over the lines that have numbers, in their order; None if there are none.
    """

    key: TableKey
    lines: tuple[Line, ...]
    numbers: TableNumbers | None = None

    @property
    def scored(self) -> tuple[Line, ...]:
        """The lines that have numbers."""
        return tuple(line for line in self.lines if line.mean is not None)

    @cached_property
    def n(self) -> int:
        """Test rows."""
        return self.scored[0].entry.n if self.scored else 0

    @property
    def cold_share(self) -> float | None:
        """Share of test targets that occur nowhere in training; one minus it is an ID model's ceiling."""
        for line in self.scored:
            cold = line.entry.figures[0].counts.get("cold")
            if cold is not None and self.n:
                return cold.n / self.n
        return None

    @property
    def gaps(self) -> tuple[float, float] | None:
        """Smallest true gap found with a power of 80 % for the middle pair: alone, and among all pairs."""
        m = len(self.scored)
        if self.numbers is None or m < 2:
            return None
        se = float(self.numbers.median_se[0])
        return detectable_gap(se), detectable_gap(se, pairs=m * (m - 1) // 2)


def rank_entries(
    key: TableKey, entries: Sequence[Entry], cache: Cache | None = None
) -> Leaderboard:
    """Rank the entries of one table.

    Ranks come from all pairs of the table, over users, targets and fits, with Holm's correction.

    Args:
        key: of the table.
        entries: its configurations.
        cache: where the statistics of the table may lie from an earlier call.

    Raises:
        DataError: two rows of the table were examined on different queries.
    """
    done = [entry for entry in entries if entry.figures]
    rest = sorted((e for e in entries if not e.figures), key=lambda e: (e.full_name, e.status))
    idle = [Line(entry) for entry in rest]
    if not done:
        return Leaderboard(key, tuple(idle))
    check_same_queries(done)
    done.sort(key=lambda entry: (-(entry.mean(HEADLINE) or 0.0), entry.full_name, entry.cell.slot))
    numbers = table_numbers(done, cache or Cache(None))
    ours = [_ours(entry, HEADLINE, numbers.as_paper, m) for m, entry in enumerate(done)]
    verdicts = line_verdicts(ours)
    lines = []
    for m, entry in enumerate(done):
        ranks, found = numbers.ranks, numbers.means
        middle = (int(ranks.first_M[m]) + int(ranks.last_M[m])) / 2
        mean, low, high = (float(ends_M[m]) for ends_M in (found.mean_M, found.low_M, found.high_M))
        note = "; ".join(filter(None, (str(found.note_M[m]), ranks.note(m))))
        lines.append(Line(entry, ranks.text(m), middle, mean, low, high, verdicts[m], note))
    return Leaderboard(key, tuple(lines + idle), numbers)


def check_same_queries(done: Sequence[Entry]) -> None:
    """Check that rows were examined on the same queries.

    Raises:
        DataError: names two rows that were examined on different ones.
    """
    first = done[0]
    for entry in done:
        for row, figures in zip(entry.done, entry.figures, strict=True):
            if figures.users != first.figures[0].users:
                raise DataError(
                    f"{row.cell.name} and {first.cell.name} were "
                    f"examined on different queries; run one of them again with `--reuse never`"
                )


def _ours(entry: Entry, metric: str, found: AsPaper, m: int) -> Ours:
    return Ours(
        cell=entry.done[0].cell,
        n=entry.n,
        mean=float(found.mean_M[m]),
        low=float(found.low_M[m]),
        high=float(found.high_M[m]),
        fit_cv=float(found.fit_cv_M[m]),
        row_cv=float(found.row_cv_M[m]),
        widening=float(found.widening_M[m]),
        by_seed=tuple(v for v in entry.by_seed(metric, scored_by(entry)) if v is not None),
        badges=entry.badges,
    )


def ours_of(entries: Sequence[Entry]) -> list[Mapping[str, Ours]]:
    """For each entry of one table, every metric that the paper reports, scored as the paper does.

    Args:
        entries: finished ones.

    Raises:
        DataError: two of them were examined on different queries.
    """
    check_same_queries(entries)
    metrics = sorted({claim.metric for claim in claims()})
    found = as_published(entries, metrics)
    fits = [_fit(entry) for entry in entries]
    return [
        {metric: replace(_ours(entry, metric, found[metric], m), fit=fits[m]) for metric in metrics}
        for m, entry in enumerate(entries)
    ]


def separated(entries: Sequence[Entry]) -> dict[tuple[str, str], float]:
    """Holm-adjusted p of all pairs by NDCG@10, scored as the paper does, by the keys of both cells.

    Args:
        entries: of one table.
    """
    p_MM = published_tables(entries, (HEADLINE,))[HEADLINE].ranks().p_MM
    keys = [entry.done[0].cell.key for entry in entries]
    return {
        (first, second): float(p_MM[i, j])
        for i, first in enumerate(keys)
        for j, second in enumerate(keys)
        if i != j
    }


def log_ratios(entries: Sequence[Entry]) -> dict[tuple[str, str], Difference]:
    """Paired log ratios of the lines of each LLM-based method by NDCG@10, scored as the paper does.

    Args:
        entries: of one table.
    """
    table = published_tables(entries, (HEADLINE,))[HEADLINE]
    keys = [entry.done[0].cell.key for entry in entries]
    methods = [entry.cell.method if entry.cell.backbone else None for entry in entries]
    return {
        (keys[i], keys[j]): found
        for i, j in permutations(range(len(keys)), 2)
        if methods[i] and methods[i] == methods[j] and (found := table.log_ratio(i, j)) is not None
    }


def _fit(entry: Entry) -> str:
    """Hash of where all targets are; equal for two searches that chose one and the same configuration."""
    return digest([one.position_Q.tolist() for one in entry.positions()])
