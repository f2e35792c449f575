"""Columns and lines of the tables of quality, cost and the overall ranking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bench.board.all_datasets import Overall
from bench.board.entry import Entry
from bench.board.leaderboard import Leaderboard, Line
from bench.board.notes import notes
from bench.board.plots import seconds_of
from bench.board.render import NOTHING, Cells, Column, Table, score
from bench.cell import HEADLINE, SELECT_BY
from bench.evaluation.metrics import find, list_names, position_names
from bench.results.figures import ITEM, VALID

GROUPS = ("Methods", "Floors", "Without numbers")


def _percent(value: Any) -> str:
    return NOTHING if value is None else f"{100 * value:.1f} %"


def _seconds(value: Any) -> str:
    if value is None:
        return NOTHING
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _gib(value: Any) -> str:
    return NOTHING if value is None else f"{value / 2**30:.2f}"


def _count(value: Any) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def _energy(value: Any) -> str:
    return "not measured" if value is None else f"{value / 1000:.2f}"


WHO = (
    Column("method", "Method"),
    Column("family", "Family"),
    Column("loss", "Loss"),
    Column("backbone", "Backbone"),
    Column("decoder", "Decoder"),
)
BEFORE = (
    Column("rank", "Rank"),
    *WHO,
    Column("train_rows", "Train rows", number=True),
    Column("seeds", "Seeds", number=True),
    Column("n", "n", number=True),
    Column("interval", "NDCG@10 [95 %]", number=True),
    Column("spread", "SD of seeds", score, True),
    *(Column(key, "") for key in (HEADLINE, "low", "high")),
    Column("hit", "Distinct targets hit", _count, True),
    Column("top3", "Share of the three largest", _percent, True),
    Column("stands", "Stands on"),
)
AFTER = (
    Column("warm", "Warm NDCG@10", score, True),
    Column("cold", "Cold NDCG@10", score, True),
    Column("item", "NDCG@10 by id", score, True),
    Column("valid", "Valid NDCG@5", score, True),
    Column("failed", "No list", lambda v: _count(v) if v else NOTHING, True),
    Column("certified", "Certified", _percent, True),
    Column("missed", "Exact list missed by beams", _percent, True),
    Column("audited", ""),
    Column("paper", "Paper NDCG@10", score, True),
    Column("verdict", "Against the paper"),
    Column("badges", "Badges"),
    Column("note", "Of the interval"),
    Column("status", "Status"),
    Column("keys", ""),
)
COST = (
    *WHO,
    Column("fit", "Fit s", _seconds, True),
    Column("upstream", "Needed cells s", _seconds, True),
    Column("recommend", "Recommend s", _seconds, True),
    Column("total", "Total s", _seconds, True),
    Column("cpu", "CPU s", _seconds, True),
    Column("users_per_second", "Users/s", _seconds, True),
    Column("host", "Peak host GiB", _gib, True),
    Column("gpu", "Peak GPU GiB", _gib, True),
    Column("total_parameters", "Parameters", _count, True),
    Column("trained_parameters", "Trained", _count, True),
    Column("joules", "Energy kJ", _energy, True),
    Column("epochs", "Epochs", _count, True),
    Column("machine", "Machine"),
    Column("status", "Status"),
)


def quality(leaderboard: Leaderboard) -> Table:
    """The leaderboard of one dataset."""
    lines = [(line, _quality_line(line)) for line in leaderboard.lines]
    for (_, cells), standing in zip(lines, _standing(leaderboard), strict=False):
        cells |= standing
    columns = (*BEFORE, *metric_columns(), *AFTER)
    return Table(
        f"{leaderboard.key.dataset}: quality", columns, _grouped(lines), notes(leaderboard)
    )


def metric_columns() -> tuple[Column, ...]:
    """A column for every registered metric: CSV has all cutoffs, people see those that a metric names."""
    columns = []
    for name in (*position_names(), *list_names()):
        metric, k = find(name)
        head = f"{metric.label}@{k}" if k in metric.shown else ""
        if name != HEADLINE:  # it has its own column, with an interval
            columns.append(Column(name, head, score, True))
    return tuple(columns)


def cost(leaderboard: Leaderboard) -> Table:
    """The table of cost for the same lines: means over seeds, of memory the maximum."""
    lines = [(line, _cost_line(line)) for line in leaderboard.lines]
    note = (
        "Seconds are wall time on the machine named, a mean where several are joined by +; compare them "
        "within one machine only, and where it was shared or a run was paused trust the CPU seconds (fit "
        "and recommend, all threads). Total charges a method with the cells it needed. Memory is the peak "
        "of fit and recommend."
    )
    return Table(f"{leaderboard.key.dataset}: cost", COST, _grouped(lines), (note,))


def overall_table(
    lines: Sequence[Overall], datasets: Sequence[str], waiting: Sequence[tuple[str, Line]]
) -> Table:
    """One board over all its datasets.

    Args:
        lines: the configurations that have numbers.
        datasets: names of the columns.
        waiting: lines without numbers, each with the dataset it lacks.
    """
    columns = (
        Column("rank", "Rank"),
        *WHO,
        *(Column(d, d, score, True) for d in datasets),
        Column("geometric", "Geometric mean", score, True),
        Column("missing", "Missing"),
        Column("status", "Status"),
    )
    done = [
        (
            line.entry.family == "floor",
            {
                "rank": line.rank,
                **_who(line.entry),
                **line.by_dataset,
                "geometric": line.geometric,
                "missing": ", ".join(line.missing) or "none",
                "status": "done",
            },
        )
        for line in lines
    ]
    idle = tuple(
        {**_who(line.entry), "missing": dataset, "status": line.entry.status}
        for dataset, line in waiting
    )
    groups = (
        (GROUPS[0], tuple(cells for floor, cells in done if not floor)),
        (GROUPS[1], tuple(cells for floor, cells in done if floor)),
        (GROUPS[2], idle),
    )
    return Table("All datasets: NDCG@10", columns, groups, (_overall_note(),))


def _overall_note() -> str:
    return (
        "Lines on every dataset are ranked, by the mean difference of logarithms of NDCG@10 over these "
        "datasets (Holm over all pairs); A is ahead of B if they are separated and no single dataset "
        "separates them the other way. Others stand below them, with the number of datasets they are on."
    )


def _grouped(lines: Iterable[tuple[Line, Cells]]) -> tuple[tuple[str, tuple[Cells, ...]], ...]:
    groups: dict[str, list[Cells]] = {name: [] for name in GROUPS}
    for line, cells in lines:
        idle = line.mean is None
        groups[GROUPS[2] if idle else GROUPS[1] if line.floor else GROUPS[0]].append(cells)
    return tuple((name, tuple(found)) for name, found in groups.items())


def _who(entry: Entry) -> dict[str, Any]:
    cell = entry.cell
    return {
        "method": entry.name,
        "family": entry.family,
        "loss": cell.loss,
        "backbone": cell.backbone,
        "decoder": cell.decoder,
    }


def _quality_line(line: Line) -> dict[str, Any]:
    entry, cell = line.entry, line.entry.cell
    cells = {**_who(entry), "rank": line.rank, "status": entry.status}
    cells["keys"] = " ".join(row.cell.key for row in entry.rows)
    if line.mean is None:
        return cells
    verdict = line.verdict
    return cells | {
        "train_rows": "all" if cell.train_rows is None else f"{cell.train_rows:,}",
        "seeds": len(entry.done),
        "n": entry.n,
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


def _cost_line(line: Line) -> dict[str, Any]:
    entry = line.entry
    cells = {**_who(entry), "status": entry.status}
    if not entry.done:
        return cells
    joules = [_phase(entry, phase, "joules") for phase in ("fit", "recommend")]
    machines = sorted({str(row.provenance.get("machine") or "unknown") for row in entry.done})
    return cells | {
        "fit": _phase(entry, "fit", "seconds"),
        "upstream": entry.fact("upstream_seconds"),
        "recommend": _phase(entry, "recommend", "seconds"),
        "total": seconds_of(line),
        "cpu": cpu_seconds(entry),
        "users_per_second": _phase(entry, "recommend", "users_per_second"),
        "host": _peak(entry, "peak_host_bytes"),
        "gpu": _peak(entry, "peak_gpu_bytes"),
        "total_parameters": entry.fact("parameters_total"),
        "trained_parameters": entry.fact("parameters_trained"),
        "joules": None if None in joules else sum(j for j in joules if j is not None),
        "epochs": entry.fact("epochs"),
        "machine": " + ".join(machines),
    }


def cpu_seconds(entry: Entry) -> float | None:
    """CPU seconds of fit and recommend, all threads, mean over seeds; None where not measured."""
    parts = [_phase(entry, phase, "cpu_seconds") for phase in ("fit", "recommend")]
    return None if None in parts else sum(part for part in parts if part is not None)


def _phase(entry: Entry, phase: str, name: str) -> float | None:
    found = [row.cost.get(phase, {}).get(name) for row in entry.done]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if len(known) == len(found) else None


def _peak(entry: Entry, name: str) -> float | None:
    bills = [row.cost.get(phase, {}) for row in entry.done for phase in ("fit", "recommend")]
    found = [bill.get(name) for bill in bills]
    return max((value for value in found if value is not None), default=None)
