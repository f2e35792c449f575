"""The numbers of one table: ranks that claim no more than the data do, intervals, verdicts, power."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.board.rows import Entry
from bench.cell import CUTOFFS, HEADLINE, SELECT_BY
from bench.claims import Ours, Verdict, claims, judge
from bench.claims.ledger import matches
from bench.claims.paper import Z
from bench.errors import DataError
from bench.evaluation.metrics import gains
from bench.results.table_key import TableKey, names
from bench.significance.bootstrap import Draws, by_seed, resample
from bench.significance.power import detectable_gap
from bench.significance.ranks import Ranks, tie_groups
from bench.types import FloatArray

BY_ID = frozenset({"traditional", "enhanced"})  # families that the paper scores by id, not by title
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
        draws, ranks: over the lines that have numbers, in their order; None if there are none.
    """

    key: TableKey
    lines: tuple[Line, ...]
    draws: Draws | None = None
    ranks: Ranks | None = None

    @property
    def scored(self) -> tuple[Line, ...]:
        """The lines that have numbers."""
        return tuple(line for line in self.lines if line.mean is not None)

    @cached_property
    def n(self) -> int:
        """Test rows."""
        return len(self.scored[0].entry.user_Q) if self.scored else 0

    @property
    def cold_share(self) -> float | None:
        """Share of test targets that occur nowhere in training; one minus it is an ID model's ceiling."""
        for line in self.scored:
            strata = line.entry.done[0].strata
            if "cold" in strata and self.n:
                return float(strata["cold"]["n"]) / self.n
        return None

    @property
    def gap(self) -> float | None:
        """Smallest true gap to the first line that one comparison finds four times in five."""
        if self.draws is None or not self.n:
            return None
        return detectable_gap(float(self.draws.se_M[0]) * math.sqrt(2 * (1 - RHO)))


def rank_entries(key: TableKey, entries: Sequence[Entry]) -> Leaderboard:
    """Rank the entries of one table.

    Ranks come from all pairs of the table: paired bootstrap over users and seeds, Holm over all pairs.

    Raises:
        DataError: two rows of the table were examined on different queries.
    """
    done = [entry for entry in entries if entry.packed]
    rest = sorted((e for e in entries if not e.packed), key=lambda e: (e.full_name, e.status))
    idle = [Line(entry) for entry in rest]
    if not done:
        return Leaderboard(key, tuple(idle))
    _same_queries(done)
    done.sort(key=lambda entry: (-float(entry.gain_SQ.mean()), entry.full_name, entry.cell.slot))
    gains_of, luck_of = [e.gain_SQ for e in done], [e.luck for e in done]
    draws = resample(gains_of, done[0].user_Q, luck_M=luck_of)
    ranks = tie_groups(draws)
    lines = []
    for m, entry in enumerate(done):
        low, high = draws.interval(m)
        middle = (int(ranks.first_M[m]) + int(ranks.last_M[m])) / 2
        ours = _ours(entry, draws, m)
        ends = (max(low, 0.0), min(high, 1.0))
        line = Line(entry, ranks.text(m), middle, ours.mean, *ends, _verdict(entry))
        lines.append(line)
    return Leaderboard(key, tuple(lines + idle), draws, ranks)


def _same_queries(done: Sequence[Entry]) -> None:
    first = done[0]
    for entry in done:
        for row, packed in zip(entry.done, entry.packed, strict=True):
            if not np.array_equal(packed.user_Q, first.user_Q):
                raise DataError(
                    f"{row.cell.label} ({row.cell.key}) and {first.cell.label} ({first.cell.key}) were "
                    f"examined on different queries; run one of them again with `--reuse never`"
                )


def _ours(entry: Entry, draws: Draws, m: int) -> Ours:
    low, high = draws.interval(m)
    # half the interval, and not draws.se_M: few users or seeds count here too
    se = (high - low) / (2 * Z)
    on_test = any(row.facts.get("selected_on") == "test" for row in entry.done)
    chosen_by = entry.mean("metrics" if on_test else "valid", SELECT_BY)
    valid = math.nan if chosen_by is None else chosen_by
    return Ours(entry.done[0].cell, len(entry.user_Q), float(draws.mean_M[m]), se, low, high, valid)


def _verdict(entry: Entry) -> Verdict | None:
    """Against Table 5, NDCG@10; None if the paper has no such cell."""
    for claim in claims():
        wanted = claim.table == "table5" and claim.metric == HEADLINE
        if wanted and matches(claim, entry.cell):
            return judge(claim, as_published(entry)[HEADLINE])
    return None


def as_published(entry: Entry) -> Mapping[str, Ours]:
    """Every metric of one finished entry with its interval, scored as the paper scores its family.

    The released code takes a language model's answer for right if the title is; its other models are
    compared by id.
    """
    by_id = entry.family in BY_ID
    by_name: dict[str, list[FloatArray]] = {}
    for packed in entry.packed:
        for name, gain_Q in gains(packed.item if by_id else packed.title, CUTOFFS).items():
            by_name.setdefault(name, []).append(gain_Q)
    names = list(by_name)
    draws = resample([by_seed(by_name[name]) for name in names], entry.user_Q, draws=2000)
    return {name: _ours(entry, draws, i) for i, name in enumerate(names)}


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
        for place, line in enumerate(leaderboard.scored):
            seen.setdefault(line.entry.question, {}).setdefault(t, place)
    keys = list(seen)
    name = names(leaderboard.key for leaderboard in leaderboards)
    ahead = {(a, b): _ahead(tables, seen[a], seen[b]) for a in keys for b in keys if a != b}
    result = []
    for key in keys:
        lines = {t: tables[t].scored[place] for t, place in seen[key].items()}
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
        draws, ranks = tables[t].draws, tables[t].ranks
        assert draws is not None and ranks is not None, "a scored table has draws"
        if ranks.p_MM[a[t], b[t]] * len(tables) < 0.05:
            better |= bool(draws.mean_M[a[t]] > draws.mean_M[b[t]])
            worse |= bool(draws.mean_M[a[t]] < draws.mean_M[b[t]])
    return better and not worse
