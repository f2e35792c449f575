"""The numbers of one table: ranks that claim no more than the data do, intervals, verdicts, power."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from bench.board.entry import Entry
from bench.board.table_numbers import Estimate, TableNumbers, as_published, table_numbers
from bench.cell import HEADLINE, SELECT_BY
from bench.claims import Claim, Ours, Verdict, claims, judge
from bench.claims.ledger import matches
from bench.claims.paper import Z
from bench.errors import DataError
from bench.results.cache import Cache
from bench.results.figures import TITLE, VALID
from bench.results.table_key import TableKey, names
from bench.significance.power import detectable_gap

RHO = 0.5  # assumed correlation of two methods' gains in the power line


@dataclass(frozen=True, eq=False)
class Line:
    """One configuration with its statistics; ``mean`` and what follows are None unless it is done."""

    entry: Entry
    rank: str = ""
    middle: float = float("inf")
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict | None = None

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
    def gap(self) -> float | None:
        """Smallest true gap to the first line that one comparison finds four times in five."""
        if self.numbers is None or not self.n:
            return None
        return detectable_gap(float(self.numbers.se_M[0]) * math.sqrt(2 * (1 - RHO)))


def rank_entries(
    key: TableKey, entries: Sequence[Entry], cache: Cache | None = None
) -> Leaderboard:
    """Rank the entries of one table.

    Ranks come from all pairs of the table: paired bootstrap over users and seeds, Holm over all pairs.

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
    lines = []
    for m, entry in enumerate(done):
        ranks, found = numbers.ranks, numbers.estimate
        middle = (int(ranks.first_M[m]) + int(ranks.last_M[m])) / 2
        ends = (max(float(found.low_M[m]), 0.0), min(float(found.high_M[m]), 1.0))
        verdict = _verdict(entry, numbers.as_paper, m)
        lines.append(Line(entry, ranks.text(m), middle, float(found.mean_M[m]), *ends, verdict))
    return Leaderboard(key, tuple(lines + idle), numbers)


def check_same_queries(done: Sequence[Entry]) -> None:
    """Refuse to compare rows of different queries.

    Raises:
        DataError: names two rows that were examined on different ones.
    """
    first = done[0]
    for entry in done:
        for row, figures in zip(entry.done, entry.figures, strict=True):
            if figures.users != first.figures[0].users:
                raise DataError(
                    f"{row.cell.label} ({row.cell.key}) and {first.cell.label} ({first.cell.key}) were "
                    f"examined on different queries; run one of them again with `--reuse never`"
                )


def _ours(entry: Entry, found: Estimate, m: int) -> Ours:
    low, high = float(found.low_M[m]), float(found.high_M[m])
    # half the interval, and not the standard error: few users or seeds count here too
    se = (high - low) / (2 * Z)
    on_test = any(row.facts.get("selected_on") == "test" for row in entry.done)
    chosen_by = entry.mean(SELECT_BY, TITLE if on_test else VALID)
    valid = math.nan if chosen_by is None else chosen_by
    return Ours(entry.done[0].cell, entry.n, float(found.mean_M[m]), se, low, high, valid)


def _verdict(entry: Entry, as_paper: Estimate, m: int) -> Verdict | None:
    """Against Table 5, NDCG@10; None if the paper has no such cell."""
    for claim in _headline_claims():
        if matches(claim, entry.cell):
            return judge(claim, _ours(entry, as_paper, m))
    return None


@cache
def _headline_claims() -> tuple[Claim, ...]:
    return tuple(c for c in claims() if c.table == "table5" and c.metric == HEADLINE)


def ours_of(entries: Sequence[Entry]) -> list[Mapping[str, Ours]]:
    """For each entry of one table every metric that a claim is about, scored as the paper scores it.

    Args:
        entries: finished ones.

    Raises:
        DataError: two of them were examined on different queries.
    """
    check_same_queries(entries)
    metrics = sorted({claim.metric for claim in claims()})
    found = as_published(entries, metrics)
    return [
        {metric: _ours(entry, found[metric], m) for metric in metrics}
        for m, entry in enumerate(entries)
    ]


@dataclass(frozen=True, eq=False)
class Overall:
    """One configuration over all datasets of a board.

    Attributes:
        name: as in the tables; loss, decoder and backbone are in ``entry``.
        by_dataset: NDCG@10 where there is a number; a dataset's name has its version where there are two.
        missing: datasets of the board without one.
        first, last: ranks over the datasets it shares with others.
        middle: where the middle of its ranks lies in the tables, 0 first and 1 last, mean over them.
    """

    entry: Entry
    by_dataset: Mapping[str, float]
    missing: tuple[str, ...]
    first: int
    last: int
    middle: float

    @property
    def rank(self) -> str:
        """``2`` or ``1-3 (tied)``."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last} (tied)"


def overall(leaderboards: Sequence[Leaderboard]) -> list[Overall]:
    """Aggregate the tables of one board.

    One configuration is ahead of another if it is significantly better on at least one dataset and
    significantly worse on none; p-values are Holm's within a table times the number of tables. Order is by
    the mean middle of the ranks as a share of their tables, then by mean NDCG@10.
    """
    tables = [leaderboard for leaderboard in leaderboards if leaderboard.scored]
    seen: dict[str, dict[int, int]] = {}
    for t, leaderboard in enumerate(tables):
        for number, line in enumerate(leaderboard.scored):
            seen.setdefault(line.entry.question, {}).setdefault(t, number)
    keys = list(seen)
    name = names(leaderboard.key for leaderboard in leaderboards)
    ahead = {(a, b): _ahead(tables, seen[a], seen[b]) for a in keys for b in keys if a != b}
    result = []
    for key in keys:
        lines = {t: tables[t].scored[number] for t, number in seen[key].items()}
        by_dataset = {name[tables[t].key]: line.mean or 0.0 for t, line in lines.items()}
        result.append(
            Overall(
                entry=next(iter(lines.values())).entry,
                by_dataset=by_dataset,
                missing=tuple(d for d in sorted(name.values()) if d not in by_dataset),
                first=1 + sum(ahead[other, key] for other in keys if other != key),
                last=len(keys) - sum(ahead[key, other] for other in keys if other != key),
                middle=float(np.mean([_share(tables[t], line) for t, line in lines.items()])),
            )
        )

    def order(line: Overall) -> tuple[float, float, str]:
        return line.middle, -float(np.mean([*line.by_dataset.values()])), line.entry.full_name

    return sorted(result, key=order)


def _share(table: Leaderboard, line: Line) -> float:
    """Where the middle of a line's ranks lies among the lines of its table, from 0 to 1."""
    return (line.middle - 0.5) / len(table.scored)


def _ahead(tables: Sequence[Leaderboard], a: Mapping[int, int], b: Mapping[int, int]) -> bool:
    better = worse = False
    for t in a.keys() & b.keys():
        numbers = tables[t].numbers
        assert numbers is not None, "a scored table has numbers"
        if numbers.ranks.p_MM[a[t], b[t]] * len(tables) < 0.05:
            mean_M = numbers.estimate.mean_M
            better |= bool(mean_M[a[t]] > mean_M[b[t]])
            worse |= bool(mean_M[a[t]] < mean_M[b[t]])
    return better and not worse
