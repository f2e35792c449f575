"""Columns and lines of the tables of quality and of the ranking over all datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.board.all_datasets import Overall
from bench.board.columns import GROUPS, LABEL, NOT_DONE, WHO, count, grouped, percent, seconds, who
from bench.board.costs import seconds_of
from bench.board.entry import Entry
from bench.board.leaderboard import Leaderboard, Line
from bench.board.notes import notes
from bench.board.render import NOTHING, Cells, Column, Table, score
from bench.cell import HEADLINE, SELECT_BY
from bench.evaluation.metrics import find, list_names, position_names
from bench.results.figures import ITEM, VALID

RANK = Column("rank", "Rank")
INTERVAL = Column("interval", "NDCG@10 [95 %]", number=True)
COLD = Column("cold", "Cold NDCG@10", score, True)
SECONDS = Column("seconds", "Total s", seconds, True)
LEAD = (RANK, LABEL, INTERVAL, Column("hit@10", "Hit@10", score, True), COLD, SECONDS, NOT_DONE)
SIX = len(LEAD) - 1  # columns that fit a page, where all lines are done
BEFORE = (
    RANK,
    *WHO,
    SECONDS,
    Column("train_rows", "Train rows", number=True),
    Column("seeds", "Seeds", number=True),
    Column("n", "n", number=True),
    INTERVAL,
    Column("spread", "SD of seeds", score, True),
    *(Column(key, "") for key in (HEADLINE, "low", "high")),
    Column("hit", "Distinct targets hit", count, True),
    Column("top3", "Share of the three largest", percent, True),
    Column("stands", "Stands on"),
)
AFTER = (
    Column("warm", "Warm NDCG@10", score, True),
    COLD,
    Column("item", "NDCG@10 by id", score, True),
    Column("valid", "Valid NDCG@5", score, True),
    Column("failed", "No list", lambda v: count(v) if v else NOTHING, True),
    Column("certified", "Certified", percent, True),
    Column("missed", "Exact list missed by beams", percent, True),
    Column("audited", ""),
    Column("paper", "Paper NDCG@10", score, True),
    Column("verdict", "Against the paper"),
    Column("badges", "Badges"),
    Column("note", "Of the interval"),
    Column("status", "Status"),
    Column("keys", ""),
)


def quality(leaderboard: Leaderboard) -> Table:
    """The leaderboard of one dataset."""
    lines = [(line, _quality_line(line)) for line in leaderboard.lines]
    for (_, cells), standing in zip(lines, _standing(leaderboard), strict=False):
        cells |= standing
    columns = (*BEFORE, *metric_columns(), *AFTER)
    title = f"{leaderboard.key.dataset}: quality"
    return Table(title, columns, grouped(lines), notes(leaderboard), LEAD)


def metric_columns() -> tuple[Column, ...]:
    """A column for every registered metric: CSV has all cutoffs, people see those that a metric names."""
    columns = []
    for name in (*position_names(), *list_names()):
        metric, k = find(name)
        head = f"{metric.label}@{k}" if k in metric.shown else ""
        if name != HEADLINE:  # it has its own column, with an interval
            columns.append(Column(name, head, score, True))
    return tuple(columns)


def overall_table(
    lines: Sequence[Overall], datasets: Sequence[str], waiting: Sequence[tuple[str, Line]]
) -> Table:
    """One board over all its datasets.

    Args:
        lines: the configurations that have numbers.
        datasets: names of the columns.
        waiting: lines without numbers, each with the dataset it lacks.
    """
    scores = tuple(Column(d, d, score, True) for d in datasets)
    geometric = Column("geometric", "Geometric mean", score, True)
    fits = len(scores) + 2 <= SIX
    columns = (
        RANK,
        *WHO,
        *scores,
        geometric,
        Column("missing", "Missing"),
        Column("status", "Status"),
    )
    done = [
        (
            line.entry.family == "floor",
            {
                "rank": line.rank,
                **who(line.entry),
                **line.by_dataset,
                "geometric": line.geometric,
                "missing": ", ".join(line.missing) or "none",
                "status": "done",
            },
        )
        for line in lines
    ]
    idle = tuple(
        {**who(line.entry), "missing": dataset, "status": line.entry.status}
        for dataset, line in waiting
    )
    groups = (
        (GROUPS[0], tuple(cells for floor, cells in done if not floor)),
        (GROUPS[1], tuple(cells for floor, cells in done if floor)),
        (GROUPS[2], idle),
    )
    lead = (RANK, LABEL, *(scores if fits else (geometric,)), NOT_DONE)
    return Table("All datasets: NDCG@10", columns, groups, (_overall_note(),), lead)


def _overall_note() -> str:
    return (
        "Lines on every dataset are ranked, by the mean difference of logarithms of NDCG@10 over these "
        "datasets (Holm over all pairs); A is ahead of B if they are separated and no single dataset "
        "separates them the other way. Others stand below them, with the number of datasets they are on."
    )


def _quality_line(line: Line) -> dict[str, Any]:
    entry, cell = line.entry, line.entry.cell
    cells = {**who(entry), "rank": line.rank, "status": entry.status}
    cells["keys"] = " ".join(row.cell.key for row in entry.rows)
    if line.mean is None:
        return cells
    verdict = line.verdict
    return cells | {
        "train_rows": "all" if cell.train_rows is None else f"{cell.train_rows:,}",
        "seeds": len(entry.done),
        "n": entry.n,
        "seconds": seconds_of(line),
        "spread": _spread(entry),
        "interval": f"{line.mean:.4f} [{line.low:.4f}, {line.high:.4f}]",
        **{name: entry.mean(name) for name in (*position_names(), *list_names())},
        HEADLINE: line.mean,
        "low": line.low,
        "high": line.high,
        "warm": entry.mean(HEADLINE, "warm"),
        "cold": entry.mean(HEADLINE, "cold"),
        "item": entry.mean(HEADLINE, ITEM),
        "valid": entry.mean(SELECT_BY, VALID),
        "failed": entry.fact("failed_queries"),
        "certified": entry.fact("certified_share"),
        "missed": entry.fact("beam_regret"),
        "audited": entry.fact("audited"),
        "paper": verdict.claim.value if verdict else None,
        "verdict": verdict.text if verdict else None,
        "badges": ", ".join(entry.badges) or None,
        "note": line.note or None,
    }


def _standing(leaderboard: Leaderboard) -> list[Cells]:
    """How many targets each line with numbers depends on; empty where rows do not name targets."""
    if leaderboard.numbers is None:
        return []
    found = leaderboard.numbers.stands
    return [
        {
            "hit": int(hit),
            "top3": float(top3),
            "stands": "; ".join(filter(None, (badge, warning))) or None,
        }
        for hit, top3, badge, warning in zip(
            found.hit_M, found.top3_M, found.badge_M, found.warning_M, strict=True
        )
    ]


def _spread(entry: Entry) -> float | None:
    """Standard deviation of the headline metric over seeds; None for a single one."""
    found = [value for value in entry.by_seed(HEADLINE) if value is not None]
    return float(np.std(found, ddof=1)) if len(found) > 1 else None
