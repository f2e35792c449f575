"""What the page's script draws, as one JSON-able value: boards, their datasets, and the lines of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bench.board.columns import GROUPS, group_of
from bench.board.costs import seconds_of
from bench.board.examples import Examples
from bench.board.leaderboard import Leaderboard, Line
from bench.board.page.line import Values, line_data
from bench.board.render import Cells, Column, Table, with_values
from bench.board.section import Section, first_leaderboard, first_section
from bench.results.table_key import TableKey, names
from bench.significance.intervals import ALPHA
from bench.types import BoolArray

ELSEWHERE = frozenset({"status", "paper", "verdict", "badges"})  # told by a part of their own


def page_data(sections: Sequence[Section], examples: Mapping[TableKey, Examples]) -> Values:
    """Everything the page shows.

    Args:
        sections: the boards.
        examples: example users of tables, as far as they are kept.
    """
    first = first_section(sections)
    boards = [_board(section, examples) for section in sections]
    return {"boards": boards, "first": sections.index(first) if first else 0}


def _board(section: Section, examples: Mapping[TableKey, Examples]) -> Values:
    name = names(board.key for board in section.leaderboards)
    first = first_leaderboard(section.leaderboards)
    return {
        "name": section.name,
        "first": section.leaderboards.index(first) if first else 0,
        "datasets": [
            _dataset(name[board.key], board, tables, examples.get(board.key))
            for board, *tables in section.datasets
        ],
        "overall": _overall(section.overall),
    }


def _overall(table: Table) -> Values:
    lead = with_values(table.lead, [cells for _, group in table.groups for cells in group])
    return {
        "note": table.notes[0],
        "heads": [[column.head, column.number] for column in lead],
        "groups": [
            [name, [[column.show(cells.get(column.key)) for column in lead] for cells in group]]
            for name, group in table.groups
            if group
        ],
    }


def _dataset(
    name: str, board: Leaderboard, tables: Sequence[Table], examples: Examples | None
) -> Values:
    details, made = _details(tables), dict[str, int]()
    beaten = iter(_beaten(board).tolist())
    lines, scored = [], 0
    for line, cells in _with_cells(board, tables):
        told = line_data(line, cells, details, made)
        if line.mean is not None and board.numbers is not None:
            ranks = board.numbers.ranks
            told |= {"first": int(ranks.first_M[scored]), "last": int(ranks.last_M[scored])}
            told["beaten"] = next(beaten)
            scored += 1
        if examples is not None:
            told["examples"] = examples.of(line.entry)
        lines.append(told)
    return {
        "name": name,
        "n": board.n,
        "cold": board.cold_share,
        "notes": list(tables[0].notes),
        "heads": [column.head for column in details],
        "made": list(made),
        "lines": lines,
        "users": examples.shown if examples else {},
        "titles": examples.titles if examples else {},
    }


def _details(tables: Sequence[Table]) -> list[Column]:
    """The columns that a line opens to, each once."""
    found = {column.key: column for table in tables for column in table.details}
    return [column for key, column in found.items() if key not in ELSEWHERE]


def _with_cells(board: Leaderboard, tables: Sequence[Table]) -> Iterator[tuple[Line, Cells]]:
    """Each line in the board's order, with its cells in all tables."""
    groups = [dict(table.groups) for table in tables]
    rest = {name: iter(zip(*(group[name] for group in groups), strict=True)) for name in GROUPS}
    for line in board.lines:
        yield (
            line,
            {key: value for cells in next(rest[group_of(line)]) for key, value in cells.items()},
        )


def _beaten(board: Leaderboard) -> BoolArray:
    """Which scored lines a line that costs no more certainly beats, bool [M]; these are off the front."""
    if board.numbers is None:
        return np.zeros(0, bool)
    mean_M, p_MM = board.numbers.means.mean_M, board.numbers.ranks.p_MM
    cost_M = np.array([np.nan if (s := seconds_of(line)) is None else s for line in board.scored])
    better_MM = (mean_M[:, None] > mean_M) & (p_MM < ALPHA)
    return np.any(better_MM & (cost_M[:, None] <= cost_M), axis=0)
