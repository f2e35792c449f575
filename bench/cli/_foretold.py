"""Lines that say what cells will take, on what that rests, and what they took."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

from bench.api import Prepared
from bench.cell import Row
from bench.cli._options import clock
from bench.data.load import load_dataset
from bench.errors import DamagedError
from bench.experiment.forecast import (
    UNKNOWN_SECONDS,
    Calibration,
    Forecast,
    beside,
    calibration_path,
)
from bench.method import Method, configure
from bench.registry import methods

WORDS = {
    "own cell": "such a cell made here",
    "own rows": "rows made here",
    "calibration": "the calibration",
    "published": "published rows",
    "estimate": "the method's own estimate alone",
    "unknown": f"nothing, and counted {clock(UNKNOWN_SECONDS)} each",
}


def time_of(forecast: Forecast) -> tuple[str, str]:
    """The time of a cell, with ~ unless such a cell was timed here, and its interval."""
    if not forecast.known:
        return "unknown", ""
    mark = "" if forecast.measured else "~"
    return mark + clock(forecast.seconds), f"{clock(forecast.low)} - {clock(forecast.high)}"


def size(value: float | None) -> str:
    """Bytes as people read them: 12 MiB, 3.1 GiB; empty if unknown."""
    if value is None:
        return ""
    mib = value / 2**20
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def rests_on(prepared: Prepared) -> Iterator[str]:
    """On what the times rest, cells by basis, and what would make them better."""
    found = Counter(job.forecast.basis for job in prepared.plan.todo)
    if not found:
        return
    parts = [f"{number} from {WORDS[basis]}" for basis, number in found.most_common()]
    site = prepared.plan.site
    if site.machine:
        yield f"times as on {site.machine}: {', '.join(parts)}".replace("made here", "made there")
        return
    calibration = None
    with contextlib.suppress(DamagedError):  # the plan has said so
        calibration = Calibration.read(calibration_path(prepared.store.root, site.device))
    yield f"times: {', '.join(parts)}; " + (
        f"calibrated {calibration.date[:10]} with torch {calibration.torch}"
        if calibration
        else "`bench calibrate` learns in a minute how fast this machine is"
    )


def compared(rows: Sequence[Row]) -> Iterator[str]:
    """What was foretold of some finished rows beside what they took; nothing if nothing was foretold."""
    found = beside(rows)
    if found is None:
        return
    waited = found.seconds - found.alone
    yield (
        f"predicted {clock(found.predicted)} for {found.cells} cells, they took {clock(found.seconds)}"
        + (f" ({clock(waited)} of it waiting for a core)" if waited > 0.1 * found.seconds else "")
        + f": {found.near} within 30 %, {found.inside} within their interval"
    )


def foreseen(prepared: Prepared) -> Iterator[str]:
    """What the methods of the cells that run have to say of them beforehand, cells together that share it."""
    cells: dict[str, list[str]] = {}
    for job in prepared.plan.todo:
        cell = job.cell
        method: type[Method] = methods.get(cell.method)
        config = configure(method, cell.config, stored=True)
        train = load_dataset(
            cell.dataset, prepared.order.choice.data_root, uncut=cell.uncut
        ).split.train
        for said in method.foresee(config, train, loss=cell.loss, backbone=cell.backbone):
            cells.setdefault(said, []).append(cell.name)
    for said, names in cells.items():
        yield f"note: {some_of(names)}: {said}"


def some_of(names: Sequence[str]) -> str:
    """The first three of some names."""
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
