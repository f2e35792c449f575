"""What the page's script draws, as one JSON-able value: boards, their datasets, and the lines of each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench.board.columns import GROUPS, group_of
from bench.board.costs import cpu_seconds, row_seconds, seconds_of
from bench.board.examples import Examples
from bench.board.leaderboard import Leaderboard, Line
from bench.board.render import NOTHING, Column, Table, with_values
from bench.board.section import Section, first_leaderboard, first_section
from bench.cell import HEADLINE, Row
from bench.evaluation.strata import PARTITIONS
from bench.results.figures import ITEM, TITLE, VALID, Figures
from bench.results.table_key import TableKey, names
from bench.significance.intervals import ALPHA

HIT = "hit@10"
BY_EPOCH = "_by_epoch"  # how a fact ends that is a list with a number an epoch
TEMPERATURE = "tau"
Values = dict[str, Any]


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
    overall = section.overall
    lines = [cells for _, group in overall.groups for cells in group]
    lead = with_values(overall.lead, lines)
    return {
        "name": section.name,
        "scale": section.scale,
        "first": section.leaderboards.index(first) if first else 0,
        "datasets": [
            _dataset(name[board.key], board, tables, examples.get(board.key))
            for board, *tables in section.datasets
        ],
        "overall": {
            "note": overall.notes[0],
            "heads": [[column.head, column.number] for column in lead],
            "groups": [
                [group, [[c.show(cells.get(c.key)) for c in lead] for cells in lines]]
                for group, lines in overall.groups
                if lines
            ],
        },
    }


def _dataset(
    name: str, board: Leaderboard, tables: Sequence[Table], examples: Examples | None
) -> Values:
    details = _details(tables)
    costs = [seconds_of(line) for line in board.scored]
    place = {id(line): m for m, line in enumerate(board.scored)}
    beaten_M = _beaten(board, costs)
    lines = []
    for line, cells in _with_cells(board, tables, details):
        told = _line(line, cells)
        if line.mean is not None and board.numbers is not None:
            m, ranks = place[id(line)], board.numbers.ranks
            told |= {
                "first": int(ranks.first_M[m]),
                "last": int(ranks.last_M[m]),
                "beaten": bool(beaten_M[m]),
            }
        if examples is not None:
            told["examples"] = examples.of(line.entry)
        lines.append(told)
    return {
        "name": name,
        "n": board.n,
        "cold": board.cold_share,
        "notes": list(tables[0].notes),
        "heads": [column.head for columns in details for column in columns],
        "lines": lines,
        "users": examples.shown if examples else {},
        "titles": examples.titles if examples else {},
    }


def _details(tables: Sequence[Table]) -> list[tuple[Column, ...]]:
    """The columns of each table that a line opens to, each once."""
    seen, found = {"status"}, []
    for table in tables:
        own = tuple(column for column in table.details if column.key not in seen)
        seen |= {column.key for column in own}
        found.append(own)
    return found


def _with_cells(
    board: Leaderboard, tables: Sequence[Table], details: Sequence[Sequence[Column]]
) -> Iterator[tuple[Line, list[str]]]:
    """Each line with its details in all tables as text, empty where there is none."""
    groups = [dict(table.groups) for table in tables]
    rest = {name: iter(zip(*(group[name] for group in groups), strict=True)) for name in GROUPS}
    for line in board.lines:
        pairs = zip(details, next(rest[group_of(line)]), strict=True)
        told = [
            column.show(cells.get(column.key)) for columns, cells in pairs for column in columns
        ]
        yield line, ["" if text == NOTHING else text for text in told]


def _beaten(board: Leaderboard, costs: Sequence[float | None]) -> Any:
    """Which scored lines a line that costs no more certainly beats, bool [M]; these are off the front."""
    if board.numbers is None:
        return np.zeros(0, bool)
    mean_M, p_MM = board.numbers.means.mean_M, board.numbers.ranks.p_MM
    cost_M = np.array([np.nan if cost is None else cost for cost in costs])
    better_MM = (mean_M[:, None] > mean_M) & (p_MM < ALPHA)
    return (better_MM & (cost_M[:, None] <= cost_M)).any(axis=0)


def _line(line: Line, details: Sequence[str]) -> Values:
    entry = line.entry
    cell, verdict = entry.cell, line.verdict
    axes = [cell.loss, cell.decoder, cell.backbone]
    told: Values = {
        "id": cell.key,
        "group": group_of(line),
        "family": entry.family,
        "name": entry.name,
        "axes": [axis for axis in axes if axis],
        "status": entry.status,
        "seeds": len(entry.done),
        "config": dict(cell.config),
        "runs": [_run(row) for row in entry.rows],
    }
    if line.mean is None:
        return told
    told |= {
        "rank": line.rank,
        "mean": line.mean,
        "low": line.low,
        "high": line.high,
        "hit": entry.mean(HIT),
        "warm": entry.mean(HEADLINE, "warm"),
        "cold": entry.mean(HEADLINE, "cold"),
        "cost": seconds_of(line),
        "cpu": cpu_seconds(entry),
        "details": list(details),
        "badges": list(entry.badges),
        "strata": list(_strata(line)),
        "curves": _curves(entry.done),
        "sweep": _sweep(line),
    }
    for run, figures in zip(
        (r for r in told["runs"] if "status" not in r), entry.figures, strict=True
    ):
        run |= {"ndcg": figures.mean(HEADLINE), "hit": figures.mean(HIT)}
    if verdict:
        told["paper"] = {
            "value": verdict.claim.value,
            "word": verdict.word,
            "differs": list(verdict.differs),
        }
    return told


def _run(row: Row) -> Values:
    """One seed: where it was made, and its cost or why it has none."""
    made = row.provenance
    told = {"seed": row.cell.seed, "key": row.cell.key}
    if row.status != "done":
        return told | {"status": row.status, "reason": row.reason}
    commit = str(made.get("commit") or "unknown")
    return told | {
        "seconds": row_seconds(row),
        "date": str(made.get("date") or "")[:10],
        "commit": commit + (" with changes" if made.get("dirty") else ""),
        "machine": str(made.get("machine") or "unknown"),
    }


def _strata(line: Line) -> Iterator[list[Any]]:
    """Name, rows, NDCG@10 and Hit@10 of every stratum of the line's rows, partitions together."""
    figures: Figures = line.entry.figures[0]
    order = {
        name: n for n, name in enumerate(name for part in PARTITIONS.values() for name in part)
    }
    found = figures.counts.keys() - {TITLE, ITEM, VALID}
    for name in sorted(found, key=lambda name: (order.get(name, len(order)), name)):
        if n := figures.counts[name].n:
            yield [name, n, *(line.entry.mean(metric, name) for metric in (HEADLINE, HIT))]


def _curves(rows: Sequence[Row]) -> Values:
    """By what they show, the learning curves of a line's seeds, a number an epoch."""
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        for fact, values in row.facts.items():
            if fact.endswith(BY_EPOCH) and isinstance(values, (list, tuple)):
                found.setdefault(fact.removesuffix(BY_EPOCH), []).append(list(values))
    return found


def _sweep(line: Line) -> Values | None:
    """The temperature of a line's loss, and what all lines of one sweep have in common; None without one."""
    cell = line.entry.cell
    options = cell.config.get("loss_options")
    if not isinstance(options, Mapping) or not isinstance(options.get(TEMPERATURE), (int, float)):
        return None
    rest = {k: v for k, v in options.items() if k != TEMPERATURE}
    config = json.dumps({**cell.config, "loss_options": rest}, sort_keys=True, default=str)
    axes = (cell.method, cell.loss, cell.decoder, cell.backbone, cell.train_rows, cell.tune)
    return {"tau": options[TEMPERATURE], "of": f"{axes} {config}"}
