"""What all boards say, in one sentence, for the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from bench.board.findings import findings
from bench.board.section import Section, first_leaderboard, first_section


def headline(sections: Sequence[Section]) -> str:
    """The first finding of the board that matters most, in a sentence; empty where nothing has numbers.

    Args:
        sections: every board.
    """
    section = first_section(sections)
    board = first_leaderboard(section.leaderboards) if section else None
    if section is None or board is None or not board.scored:
        return ""
    if said := findings(section):
        return f"{said[0].head}: {said[0].text}"
    line = board.scored[0]
    return (
        f"{board.key.dataset}: the largest NDCG@10 has {line.entry.name}, {line.mean:.4f} [{line.low:.4f}, "
        f"{line.high:.4f}], rank {line.rank}"
    )
