"""One board with its tables, and which of several boards a reader sees first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.board.leaderboard import Leaderboard
from bench.board.render import Table
from bench.experiment.suite import warning_of

RULE = (
    "Shown first: of the boards on whole test sets, never a demonstration beside another, that with the most "
    "finished runs (lines times seeds), and of its datasets that with the most."
)


@dataclass(frozen=True, eq=False)
class Section:
    """One board: its overall table and, by dataset, leaderboard and tables of quality and cost."""

    name: str
    overall: Table
    datasets: tuple[tuple[Leaderboard, Table, Table], ...]

    @property
    def leaderboards(self) -> tuple[Leaderboard, ...]:
        """The leaderboards of its datasets."""
        return tuple(leaderboard for leaderboard, _, _ in self.datasets)

    @property
    def scale(self) -> str:
        """The scale of all its rows."""
        return self.leaderboards[0].key.scale


def first_section(sections: Sequence[Section]) -> Section | None:
    """The board that ``RULE`` names; None if no board has numbers."""

    def weight(section: Section) -> tuple[bool, bool, int]:
        key = section.leaderboards[0].key
        return (
            not warning_of(key.scale),
            key.test_rows is None,
            sum(map(runs, section.leaderboards)),
        )

    scored = [s for s in sections if any(board.scored for board in s.leaderboards)]
    return max(scored, key=weight, default=None)


def first_leaderboard(leaderboards: Iterable[Leaderboard]) -> Leaderboard | None:
    """The dataset of a board that ``RULE`` names; None if none has numbers."""
    return max((board for board in leaderboards if board.scored), key=runs, default=None)


def runs(leaderboard: Leaderboard) -> int:
    """Finished runs: lines with numbers, times their seeds."""
    return sum(len(line.entry.done) for line in leaderboard.scored)
