"""What stands in the tables: columns and lines of quality, cost and the overall ranking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.board.plots import seconds_of
from bench.board.render import NOTHING, Cells, Column, Table, score
from bench.board.rows import Entry
from bench.board.standing import RHO, Line, Overall, Standing
from bench.claims.paper import CARVED

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
QUALITY = (
    Column("rank", "Rank"),
    *WHO,
    Column("train_rows", "Train rows", number=True),
    Column("seeds", "Seeds", number=True),
    Column("n", "n", number=True),
    Column("interval", "NDCG@10 [95 %]", number=True),
    Column("spread", "SD of seeds", score, True),
    *(Column(key, "") for key in ("ndcg@10", "low", "high")),
    *(Column(f"{m}@{k}", f"{m.upper() if m == 'ndcg' else 'Hit'}@{k}", score, True)
      for m, k in (("ndcg", 5), ("hit", 5), ("hit", 10), ("ndcg", 1))),
    Column("warm", "Warm NDCG@10", score, True),
    Column("cold", "Cold NDCG@10", score, True),
    Column("item", "NDCG@10 by id", score, True),
    Column("valid", "Valid NDCG@5", score, True),
    Column("failed", "No list", lambda v: _count(v) if v else NOTHING, True),
    Column("certified", "Certified", _percent, True),
    Column("regret", "Beam regret", score, True),
    Column("paper", "Paper NDCG@10", score, True),
    Column("verdict", "Against the paper"),
    Column("status", "Status"),
    Column("keys", ""),
)  # fmt: skip
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


def quality(standing: Standing) -> Table:
    """The leaderboard of one dataset."""
    lines = [(line, _quality_line(line)) for line in standing.lines]
    return Table(f"{standing.place.dataset}: quality", QUALITY, _grouped(lines), notes(standing))


def cost(standing: Standing) -> Table:
    """What the same lines cost; means over seeds, memory the largest of them."""
    lines = [(line, _cost_line(line)) for line in standing.lines]
    note = (
        "Seconds are wall time on the machine named; compare them within one machine only, and where it was "
        "shared or a run was paused trust the CPU seconds (fit and recommend, all threads). "
        "Total charges a method with the cells it needed. Memory is the peak of fit and recommend."
    )
    return Table(f"{standing.place.dataset}: cost", COST, _grouped(lines), (note,))


def overall_table(
    lines: Sequence[Overall], datasets: Sequence[str], waiting: Sequence[Line]
) -> Table:
    """One board over all its datasets."""
    columns = (
        Column("rank", "Rank"),
        Column("middle", "Mean place", _percent, True),
        *WHO,
        *(Column(d, d, score, True) for d in datasets),
        Column("missing", "Missing"),
        Column("status", "Status"),
    )
    done = [
        (
            line.entry.family == "floor",
            {
                "rank": line.rank,
                "middle": line.middle,
                **_who(line.entry),
                **line.by_dataset,
                "missing": ", ".join(line.missing) or "none",
                "status": "done",
            },
        )
        for line in lines
    ]
    idle = tuple(
        {**_who(line.entry), "missing": line.entry.cell.dataset, "status": line.entry.status}
        for line in waiting
    )
    groups = (
        (GROUPS[0], tuple(cells for floor, cells in done if not floor)),
        (GROUPS[1], tuple(cells for floor, cells in done if floor)),
        (GROUPS[2], idle),
    )
    return Table("All datasets: NDCG@10", columns, groups, (_overall_note(),))


def _overall_note() -> str:
    return (
        "A is ahead of B if it is significantly better on at least one dataset and significantly worse on "
        "none (p of each table times the number of tables); rank = 1 + how many are ahead, to all less how "
        "many are behind. Mean place: where the middle of a line's ranks lies in its tables, 0 % first, "
        "100 % last; it orders the lines, and mean NDCG@10 where it is equal."
    )


def notes(standing: Standing) -> tuple[str, ...]:
    """Everything a reader has to know before comparing two lines."""
    place = standing.place
    rows = [row for line in standing.lines for row in line.entry.rows]
    dates = sorted({str(row.provenance["date"])[:10] for row in rows if row.provenance.get("date")})
    commits = sorted({_commit(row.provenance) for row in rows if row.provenance.get("commit")})
    seeds = sorted({row.cell.seed for line in standing.scored for row in line.entry.done})
    cap = f"a fixed sample of {place.test_rows}" if place.test_rows else "all"
    told = [
        f"scale {place.scale}, profile {place.profile}, protocol {place.protocol}, "
        f"dataset version {place.data_version[:12] or 'unknown'}",
        f"n = {standing.n} test rows ({cap}), seeds {', '.join(map(str, seeds)) or 'none'}; "
        "several seeds of one configuration are averaged",
    ]
    told += _caveats(standing)
    told.append(f"rows of {_range(dates)}; commits {', '.join(commits) or 'unknown'}")
    return tuple(told)


def _caveats(standing: Standing) -> list[str]:
    """What the numbers of a table do and do not say."""
    told, entries = [], [line.entry for line in standing.scored]
    if standing.place.dataset in CARVED:
        done = "is held out for it" if standing.place.profile == "corrected" else "stays in train"
        told.append(f"no validation windows are published, the last eighth of train.csv {done}")
    if standing.cold_share is not None:
        cold = standing.cold_share
        told.append(
            f"cold share {100 * cold:.1f} % of test targets occur nowhere in the training split; ceiling of "
            f"a model that only knows its items: Hit {100 * (1 - cold):.1f} %, lower for lines with fewer "
            "train rows"
        )
    if standing.gap is not None:
        told.append(
            f"one comparison with the first line, uncorrected, finds a gap of {standing.gap:.4f} NDCG@10 "
            f"four times in five (correlation {RHO}); ranks are corrected for all pairs and need more"
        )
    told.append(
        "ranks: all pairs, paired bootstrap of NDCG@10 over users (and seeds where there are several), Holm "
        "over all pairs of the table; 1-3 (tied) = nothing certain within these ranks"
    )
    if any(len(entry.done) == 1 and entry.family != "floor" for entry in entries):
        told.append(
            "lines with one seed: intervals and ranks cover the test users, not training's luck"
        )
    if any(row.facts.get("selected_on") == "test" for entry in entries for row in entry.done):
        told.append("epochs were chosen on the test rows, as in the released code: a best case")
    mixed = sorted(entry.full_name for entry in entries if entry.mixed)
    told += [f"seeds made by different versions of the code: {', '.join(mixed)}"] * bool(mixed)
    return told


def _commit(provenance: Any) -> str:
    return f"{provenance['commit']}{' with changes' if provenance.get('dirty') else ''}"


def _range(dates: Sequence[str]) -> str:
    if not dates:
        return "unknown date"
    return dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"


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
        "n": len(entry.user_Q),
        "spread": float(entry.gain_SQ.mean(1).std(ddof=1)) if len(entry.done) > 1 else None,
        "interval": f"{line.mean:.4f} [{line.low:.4f}, {line.high:.4f}]",
        "ndcg@10": line.mean,
        "low": line.low,
        "high": line.high,
        **{name: entry.mean("metrics", name) for name in ("ndcg@5", "hit@5", "hit@10", "ndcg@1")},
        "warm": entry.mean("warm", "ndcg@10"),
        "cold": entry.mean("cold", "ndcg@10"),
        "item": entry.mean("metrics_by_item", "ndcg@10"),
        "valid": entry.mean("valid", "ndcg@5"),
        "failed": entry.mean("facts", "failed_queries"),
        "certified": entry.mean("facts", "certified_share"),
        "regret": entry.mean("facts", "beam_regret"),
        "paper": verdict.claim.value if verdict else None,
        "verdict": verdict.text if verdict else None,
    }


def _cost_line(line: Line) -> dict[str, Any]:
    entry = line.entry
    cells = {**_who(entry), "status": entry.status}
    if not entry.done:
        return cells
    joules = [_phase(entry, phase, "joules") for phase in ("fit", "recommend")]
    return cells | {
        "fit": _phase(entry, "fit", "seconds"),
        "upstream": entry.mean("facts", "upstream_seconds"),
        "recommend": _phase(entry, "recommend", "seconds"),
        "total": seconds_of(line),
        "cpu": cpu_seconds(entry),
        "users_per_second": _phase(entry, "recommend", "users_per_second"),
        "host": _peak(entry, "peak_host_bytes"),
        "gpu": _peak(entry, "peak_gpu_bytes"),
        "total_parameters": entry.mean("facts", "parameters_total"),
        "trained_parameters": entry.mean("facts", "parameters_trained"),
        "joules": None if None in joules else sum(j for j in joules if j is not None),
        "epochs": entry.mean("facts", "epochs"),
        "machine": entry.done[0].provenance.get("machine"),
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
    found = [bill.get(name) for row in entry.done for bill in row.cost.values()]
    return max((value for value in found if value is not None), default=None)
