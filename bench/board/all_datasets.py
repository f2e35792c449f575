"""One ranking over all datasets of a board, of the configurations that have a number on each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.board.entry import Entry
from bench.board.leaderboard import Leaderboard
from bench.results.table_key import names
from bench.significance.overall import LogPairs, over_tables


@dataclass(frozen=True, eq=False)
class Overall:
    """One configuration over all datasets of a board.

    Attributes:
        entry: the configuration, on the first dataset that has it.
        by_dataset: NDCG@10 where there is a number; a dataset's name has its version where there are two.
        missing: datasets of the board without one.
        first, last: bounds of its rank; None unless it has a number above 0 on every dataset.
        geometric: geometric mean of NDCG@10 over the datasets it is on.
    """

    entry: Entry
    by_dataset: Mapping[str, float]
    missing: tuple[str, ...]
    first: int | None
    last: int | None
    geometric: float

    @property
    def rank(self) -> str:
        """Its rank as text: ``2``, ``1-3 (tied)``, or the number of datasets it is on."""
        if self.first is None:
            n = len(self.by_dataset)
            hits = sum(value > 0 for value in self.by_dataset.values())
            return f"{n} of {n + len(self.missing)}" + ("" if hits == n else ", no hit on one")
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last} (tied)"


def overall(leaderboards: Sequence[Leaderboard]) -> list[Overall]:
    """Rank the configurations of one board over all its datasets; see ``over_tables``.

    Only lines with a number on every dataset are ranked, in order of their geometric mean; others stand below
    them, those on more datasets first.
    """
    tables = [leaderboard for leaderboard in leaderboards if leaderboard.scored]
    seen: dict[tuple[str, bool], dict[int, int]] = {}
    for t, leaderboard in enumerate(tables):
        for number, line in enumerate(leaderboard.scored):
            asked = line.entry.question, line.entry.published
            seen.setdefault(asked, {}).setdefault(t, number)
    place_AD = np.array(
        [[places.get(t, -1) for t in range(len(tables))] for places in seen.values()]
    )
    found = over_tables(_logs(tables), place_AD) if seen else None
    bounds = {}
    if found is not None:
        ranks = zip(found.ranked_R, found.first_R, found.last_R, strict=True)
        bounds = {int(a): (int(first), int(last)) for a, first, last in ranks}
    name = names(leaderboard.key for leaderboard in leaderboards)
    result = []
    for a, places in enumerate(seen.values()):
        lines = {t: tables[t].scored[number] for t, number in places.items()}
        by_dataset = {name[tables[t].key]: line.mean or 0.0 for t, line in lines.items()}
        first, last = bounds.get(a, (None, None))
        missing = tuple(d for d in sorted(name.values()) if d not in by_dataset)
        entry = next(iter(lines.values())).entry
        result.append(Overall(entry, by_dataset, missing, first, last, _geometric(by_dataset)))
    return sorted(result, key=_order)


def _logs(tables: Sequence[Leaderboard]) -> list[LogPairs]:
    numbers = [table.numbers for table in tables]
    assert all(numbers), "a scored table has numbers"
    return [table.logs for table in numbers if table is not None]


def _geometric(by_dataset: Mapping[str, float]) -> float:
    values = list(by_dataset.values())
    return float(np.exp(np.mean(np.log(values)))) if all(values) else 0.0


def _order(line: Overall) -> tuple[bool, int, float, str]:
    return line.first is None, len(line.missing), -line.geometric, line.entry.full_name
