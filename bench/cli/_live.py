"""Shows a run while it goes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.cell import Row
from bench.cli._options import clock
from bench.execution.schedule import Progress
from bench.execution.status import read_status, remaining
from bench.experiment.forecast import spent
from bench.experiment.plan import Plan
from bench.experiment.wall import wall_seconds
from bench.results.figures import Figures, figures_beside
from bench.results.store import Store

LINE_EVERY_SECONDS = 60.0
PHASE, LEFT = 18, 9  # widths of columns in the live table; names and numbers share what is left


def outcome(row: Row, figures: Figures | None) -> str:
    """One cell's result in a line.

    Args:
        row: of the cell.
        figures: its numbers, None if it has none.
    """
    if row.status == "done" and figures is not None:
        ndcg, hit = (figures.mean(name) or 0.0 for name in ("ndcg@10", "hit@10"))
        quality = f"NDCG@10 {ndcg:.4f}  Hit@10 {hit:.4f}"
        return f"done      {row.cell.name:<51} {quality}  {clock(spent(row))}"
    if row.status == "done":
        return f"done      {row.cell.name:<51} artefact ready  {clock(spent(row))}"
    return f"{row.status:<9} {row.cell.name:<51} {row.reason}"


@dataclass
class Watch:
    """Shows the progress of a schedule; use it as a context manager."""

    store: Store
    plan: Plan
    console: Console = field(default_factory=Console)
    _shown: int = 0
    _said: int = 0
    _last_line: float = 0.0
    _live: Live | None = None

    def __enter__(self) -> Watch:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, fault, trace)

    def __call__(self, progress: Progress) -> None:
        """Show what is new."""
        for line in progress.said[self._said :]:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._said = max(self._said, len(progress.said))
        for row in progress.rows[self._shown :]:
            figures = figures_beside(self.store.row_path(row.cell))
            self.console.print(outcome(row, figures), highlight=False, markup=False, soft_wrap=True)
        self._shown = len(progress.rows)
        if self._live is not None:
            self._live.update(self._table(progress))
        elif time.monotonic() - self._last_line > LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            print(self._line(progress), flush=True)
        sys.stdout.flush()

    def _states(self, progress: Progress) -> list[tuple[str, str, str, float]]:
        """Label, phase with progress, numbers and seconds left of each running cell."""
        states = []
        for handle in progress.running:
            predicted = progress.predicted.get(handle.cell.key, 0.0)
            if handle.started is None:  # what its folder says is from an earlier start
                states.append((handle.cell.name, handle.note, "", predicted))
                continue
            state = read_status(self.store.folder(handle.cell.key) / "status.json")
            left = remaining(state, predicted, time.monotonic() - handle.started)
            share = f"{state.get('done', 0):g}/{state.get('total', 1):g}" if state else ""
            numbers = "  ".join(f"{k} {v:.4g}" for k, v in state.get("numbers", {}).items())
            states.append((handle.cell.name, f"{state.get('phase', '...')} {share}", numbers, left))
        return states

    def _eta(self, progress: Progress, states: list[tuple[str, str, str, float]]) -> float:
        """Seconds to the end; at the start the number that the plan and the banner say."""
        keys = (handle.cell.key for handle in progress.running)
        running = dict(zip(keys, (left for *_, left in states), strict=True))
        site = self.plan.site
        return wall_seconds(
            progress.waiting, site.places, running=running, wide=site.device == "cuda"
        )

    def _headline(self, progress: Progress, states: list[tuple[str, str, str, float]]) -> str:
        elapsed, total = clock(time.monotonic() - progress.began), len(self.plan.todo)
        return (
            f"{max(total - len(progress.waiting) - len(progress.running), 0)} of {total} cells, "
            f"{elapsed} so far, about {clock(self._eta(progress, states))} to go"
        )

    def _table(self, progress: Progress) -> Table:
        states = self._states(progress)
        table = Table(
            title=self._headline(progress, states), title_justify="left", box=None, expand=True
        )
        columns = (
            ("running", 3, None),
            ("phase", None, PHASE),
            ("latest", 2, None),
            ("left", None, LEFT),
        )
        for title, ratio, width in columns:
            table.add_column(title, ratio=ratio, width=width, no_wrap=True, overflow="ellipsis")
        for label, phase, numbers, left in states:
            table.add_row(label, phase, numbers, clock(left))
        return table

    def _line(self, progress: Progress) -> str:
        """All of it in one line, for files and pipes."""
        states = self._states(progress)
        cells = (
            " ".join(f"{label} {phase} {numbers}".split()) for label, phase, numbers, _ in states
        )
        return "; ".join([f"... {self._headline(progress, states)}", *cells])
