"""What a cell will take: from earlier rows of its kind, or by the method's own estimate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.cell import AXES, Cell, Row, Size
from bench.data.load import load_dataset
from bench.method import Method, configure
from bench.registry import methods
from bench.results.row_files import rows_under
from bench.results.store import Store

START_SECONDS = 1.0  # what a cell costs before it does anything, from a warm process


def history_of(store: Store, device: str) -> list[Row]:
    """The finished rows of a store that were made on such a device.

    Args:
        store: its own rows, stages and published rows.
        device: ``cpu`` or ``cuda``.
    """
    homes = [store.rows, store.root / "stages", *filter(None, [store.published])]
    rows = [row for home in homes for _, row in rows_under(home)]
    return [
        row
        for row in rows
        if row.status == "done"
        and str(row.provenance.get("device", "")).partition(":")[0] == device
    ]


def spent(row: Row) -> float:
    """Seconds a row took, phases added up."""
    return sum(phase.get("seconds") or 0.0 for phase in row.cost.values())


def _kind(cell: Cell) -> tuple[object, ...]:
    """All that cells must share for the duration of one to predict that of the other."""
    size = (cell.train_rows, cell.test_rows, cell.config.get("epochs"), cell.tune)
    # of a search: what it tries, how often, and how long each time
    inner = [str(cell.config.get(name)) for name in ("method", *AXES, "trials")]
    values = cell.config.get("values")
    inner.append(str(values.get("epochs") if isinstance(values, Mapping) else None))
    axes = tuple(getattr(cell, axis) for axis in AXES)
    return (cell.dataset, cell.method, *axes, cell.scale, *size, *inner)


def earlier_row(cell: Cell, ranks: int, history: list[Row]) -> Row | None:
    """The latest row of the same kind and number of ranks; None if there was none.

    Args:
        cell: the cell that is planned.
        ranks: processes that will share its work.
        history: from ``history_of``.
    """
    alike = [
        row
        for row in history
        if row.provenance.get("ranks", 1) == ranks and _kind(row.cell) == _kind(cell)
    ]
    return max(alike, key=lambda row: str(row.provenance.get("date", "")), default=None)


def gpu_peak(row: Row) -> float | None:
    """Highest GPU memory in bytes of a row made on a GPU, 0 if it never opened it; None if on a CPU."""
    if str(row.provenance.get("device", "")).partition(":")[0] != "cuda":
        return None
    return max((phase.get("peak_gpu_bytes") or 0.0 for phase in row.cost.values()), default=0.0)


def guessed(cell: Cell, root: Path | None) -> float:
    """The method's own estimate of a cell's seconds.

    Args:
        cell: the cell.
        root: folder of the data; None for each dataset's own.
    """
    method: type[Method] = methods.get(cell.method)
    split = load_dataset(cell.dataset, root, uncut=cell.uncut).split
    size = Size(
        train_rows=min(cell.train_rows or len(split.train), len(split.train)),
        test_rows=min(cell.test_rows or len(split.test), len(split.test)),
        n_items=split.train.n_items,
        loss=cell.loss,
        backbone=cell.backbone,
    )
    return START_SECONDS + method.estimate_seconds(
        configure(method, cell.config, stored=True), size
    )
