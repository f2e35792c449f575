"""The excerpt of the leaderboard in the project's README: ten lines between two marks, never typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.board.costs import cpu_seconds
from bench.board.leaderboard import Leaderboard, Line
from bench.board.notes import notes
from bench.board.render import Column, Table, escape_markdown, score, to_markdown
from bench.board.section import Section, first_leaderboard, first_section
from bench.cell import HEADLINE
from bench.disk.storage import write_whole

BEGIN, END = "<!-- board:begin -->", "<!-- board:end -->"
LINES, FLOORS = 10, 3
COLUMNS = (
    Column("rank", "Rank"),
    Column("method", "Method"),
    Column("interval", "NDCG@10 [95 %]", number=True),
    Column("hit", "Hit@10", score, True),
    Column("cold", "Cold NDCG@10", score, True),
    Column("paper", "Paper (ours, scored as there)", number=True),
    Column("cpu", "CPU s, fit and exam", number=True),
)


def fill(readme: Path, sections: Sequence[Section]) -> bool:
    """Replace the excerpt in a README; False if it has no marks for one or there are no numbers.

    Args:
        readme: the file.
        sections: the boards, of which one table is shown, see ``bench.board.section.RULE``.
    """
    section = first_section(sections)
    leaderboard = first_leaderboard(section.leaderboards) if section else None
    if not readme.is_file() or leaderboard is None:
        return False
    text = readme.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        return False
    filled = f"{head}{BEGIN}\n{excerpt(leaderboard)}{END}{tail}"
    write_whole(readme, lambda part: part.write_text(filled, encoding="utf-8"))
    return True


def excerpt(leaderboard: Leaderboard) -> str:
    """Ten lines of a table, the best floors among them, with the table's own header line."""
    floors = [line for line in leaderboard.scored if line.floor][:FLOORS]
    others = [line for line in leaderboard.scored if not line.floor][: LINES - len(floors)]
    chosen = [line for line in leaderboard.scored if line in floors or line in others]
    cells = tuple(_cells(line) for line in chosen)
    told = notes(leaderboard)
    about = f"{leaderboard.key.dataset}: {told[0]}; {told[1].partition(';')[0]}; {told[-1]}"
    table = Table("", COLUMNS, (("", cells),))
    return f"{escape_markdown(about)}\n\n{to_markdown(table).partition(chr(10) * 2)[2].lstrip()}"


def _cells(line: Line) -> dict[str, object]:
    entry = line.entry
    cell = entry.cell
    axes = ", ".join(filter(None, [cell.loss, cell.backbone]))
    floor = " (floor)" if line.floor else ""
    verdict = line.verdict
    return {
        "rank": line.rank,
        "method": f"{entry.name}{f' ({axes})' if axes else ''}{floor}",
        "interval": f"{line.mean:.4f} [{line.low:.4f}, {line.high:.4f}]",
        "hit": entry.mean("hit@10"),
        "cold": entry.mean(HEADLINE, "cold"),
        "paper": f"{score(verdict.claim.value)} ({verdict.word})" if verdict else None,
        "cpu": None if (used := cpu_seconds(entry)) is None else f"{used:,.0f}",
    }
