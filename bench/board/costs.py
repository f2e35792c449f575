"""What the lines of a table cost: time, memory, energy and parameters."""

from __future__ import annotations

from typing import Any

from bench.board.columns import LABEL, NOT_DONE, WHO, count, grouped, seconds, who
from bench.board.entry import Entry
from bench.board.leaderboard import Leaderboard, Line
from bench.board.render import NOTHING, Column, Table
from bench.cell import Row


def _gib(value: Any) -> str:
    return NOTHING if value is None else f"{value / 2**30:.2f}"


def _energy(value: Any) -> str:
    return "not measured" if value is None else f"{value / 1000:.2f}"


TOTAL = Column("total", "Total s", seconds, True)
CPU = Column("cpu", "CPU s", seconds, True)
HOST = Column("host", "Peak host GiB", _gib, True)
GPU = Column("gpu", "Peak GPU GiB", _gib, True)
MACHINE = Column("machine", "Machine")
LEAD = (LABEL, TOTAL, CPU, HOST, GPU, MACHINE, NOT_DONE)
COST = (
    *WHO,
    Column("fit", "Fit s", seconds, True),
    Column("upstream", "Needed cells s", seconds, True),
    Column("recommend", "Recommend s", seconds, True),
    TOTAL,
    CPU,
    Column("users_per_second", "Users/s", seconds, True),
    HOST,
    GPU,
    Column("total_parameters", "Parameters", count, True),
    Column("trained_parameters", "Trained", count, True),
    Column("joules", "Energy kJ", _energy, True),
    Column("epochs", "Epochs", count, True),
    MACHINE,
    Column("status", "Status"),
)


def cost(leaderboard: Leaderboard) -> Table:
    """The table of cost for the same lines: means over seeds, of memory the maximum."""
    lines = [(line, _cost_line(line)) for line in leaderboard.lines]
    note = (
        "Seconds are wall time on the machine named, a mean where several are joined by +; compare them "
        "within one machine only, and where it was shared or a run was paused trust the CPU seconds (fit "
        "and recommend, all threads). Total charges a method with the cells it needed. Memory is the peak "
        "of fit and recommend."
    )
    return Table(f"{leaderboard.key.dataset}: cost", COST, grouped(lines), (note,), LEAD)


def seconds_of(line: Line) -> float | None:
    """Mean seconds over seeds to fit, to make what was needed, and to recommend; None if unmeasured."""
    known = [spent for row in line.entry.done if (spent := row_seconds(row)) is not None]
    return sum(known) / len(known) if known and len(known) == len(line.entry.done) else None


def row_seconds(row: Row) -> float | None:
    """Seconds to fit, to make what was needed, and to recommend; None if any of it was not measured."""
    spent = [row.cost.get(phase, {}).get("seconds") for phase in ("fit", "recommend")]
    known = [seconds for seconds in spent if seconds is not None]
    if len(known) < len(spent):
        return None
    return sum(known) + float(row.facts.get("upstream_seconds") or 0.0)


def _cost_line(line: Line) -> dict[str, Any]:
    entry = line.entry
    cells = {**who(entry), "status": entry.status}
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
