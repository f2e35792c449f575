"""What the page holds of one line: its six columns, and all that it opens to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from bench.board.columns import group_of
from bench.board.costs import row_seconds
from bench.board.leaderboard import Line
from bench.board.render import NOTHING, Cells, Column
from bench.cell import HEADLINE, Row
from bench.evaluation.metrics import weights
from bench.evaluation.strata import PARTITIONS
from bench.results.figures import ITEM, TITLE, VALID
from bench.types import FloatArray

HIT = "hit@10"
DIGITS = 6  # of the numbers on the page
BY_EPOCH = "_by_epoch"  # how a fact ends that is a list with a number an epoch
TEMPERATURE = "tau"
Values = dict[str, Any]


def line_data(line: Line, cells: Cells, details: Sequence[Column], made: dict[str, int]) -> Values:
    """The values of a line.

    Args:
        line: the line.
        cells: its cells in the tables of quality and cost.
        details: the columns it opens to.
        made: by sentence on where and when a run was made, its number; new ones are added.
    """
    entry, verdict = line.entry, line.verdict
    axes = (entry.cell.loss, entry.cell.decoder, entry.cell.backbone)
    told: Values = {
        "id": cells["keys"].partition(" ")[0],
        "group": group_of(line),
        "family": entry.family,
        "name": entry.name,
        "axes": [axis for axis in axes if axis],
        "status": entry.status,
        "seeds": len(entry.done),
        "config": plain(entry.cell.config),
        "runs": list(_runs(line, cells["keys"].split(), made)),
    }
    if line.mean is None:
        return told
    numbers = {"mean": line.mean, "low": line.low, "high": line.high, "hit": cells[HIT]}
    numbers |= {"warm": cells["warm"], "cold": cells["cold"], "cost": cells["seconds"]}
    texts = (column.show(cells.get(column.key)) for column in details)
    told |= {name: number(value) for name, value in numbers.items()}
    told |= {
        "rank": line.rank,
        "details": ["" if text == NOTHING else text for text in texts],
        "badges": list(entry.badges),
        "strata": list(_strata(line)),
        "curves": _curves(entry.done),
        "sweep": _sweep(line),
    }
    if verdict:
        claim = {"value": verdict.claim.value, "word": verdict.word}
        told["paper"] = {**claim, "differs": list(verdict.differs)}
    return told


def number(value: float | None) -> float | None:
    """A number as the page holds it; None where it is not finite."""
    return round(float(value), DIGITS) if value is not None and math.isfinite(value) else None


def plain(value: Any) -> Any:
    """A copy of a setting that JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, (int, str)) else str(value)


@cache
def _weights() -> FloatArray:
    """Gain of each rank, for NDCG@10 and Hit@10, float64 [K, 2]."""
    return np.stack([weights(HEADLINE), weights(HIT)], axis=1)


def _runs(line: Line, keys: Sequence[str], made: dict[str, int]) -> Iterator[list[Any]]:
    """Of each seed: seed, key, NDCG@10, Hit@10, seconds, and the number of how it was made."""
    figures = iter(line.entry.figures)
    for row, key in zip(line.entry.rows, keys, strict=True):
        told = made.setdefault(_made(row), len(made))
        if row.status != "done":
            yield [row.cell.seed, key, None, None, None, told]
            continue
        counts = next(figures).counts[TITLE]
        ndcg, hit = counts.count_K @ _weights() / counts.n
        yield [row.cell.seed, key, number(ndcg), number(hit), number(row_seconds(row)), told]


def _made(row: Row) -> str:
    """When, by which code and where a run was made, or why it has no numbers."""
    if row.status != "done":
        return f"{row.status}: {row.reason}"
    made = row.provenance
    date, machine = (
        str(made.get("date") or "unknown date")[:10],
        made.get("machine") or "unknown machine",
    )
    changed = " with changes" if made.get("dirty") else ""
    return f"{date}, commit {made.get('commit') or 'unknown'}{changed}, {machine}"


def _strata(line: Line) -> Iterator[list[Any]]:
    """Name, rows, NDCG@10 and Hit@10 of every stratum that all seeds have, partitions together."""
    every = [figures.counts for figures in line.entry.figures]
    shared = set.intersection(*(set(counts) for counts in every)) - {TITLE, ITEM, VALID}
    names = sorted((name for name in shared if all(c[name].n for c in every)), key=_place)
    if not names:
        return
    count_PSK = np.array([[counts[name].count_K for counts in every] for name in names])
    n_PS = np.array([[counts[name].n for counts in every] for name in names])
    mean_PM = (count_PSK / n_PS[..., None]).mean(axis=1) @ _weights()
    for name, n, means in zip(names, n_PS[:, 0].tolist(), mean_PM.tolist(), strict=True):
        yield [name, n, *map(number, means)]


def _place(stratum: str) -> tuple[int, str]:
    """Strata of one partition stand together, those of no known partition last."""
    return _order().get(stratum, len(_order())), stratum


@cache
def _order() -> dict[str, int]:
    return {name: n for n, name in enumerate(s for part in PARTITIONS.values() for s in part)}


def _curves(rows: Sequence[Row]) -> Values:
    """By what they show, the learning curves of a line's seeds, a number an epoch."""
    found: dict[str, list[list[float | None]]] = {}
    for row in rows:
        for fact, values in row.facts.items():
            if fact.endswith(BY_EPOCH) and isinstance(values, (list, tuple)):
                found.setdefault(fact.removesuffix(BY_EPOCH), []).append([*map(number, values)])
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
