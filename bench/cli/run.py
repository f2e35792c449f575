"""``bench run``: run a suite and make its tables."""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from bench.api import Prepared, default_store, execute, local_executor, prepare
from bench.board.folder import check_ours, claim
from bench.cell import Row
from bench.cli._foretold import compared, rests_on
from bench.cli._left_out import LeftOut
from bench.cli._live import Watch
from bench.cli._options import (
    add_how_options,
    add_store_options,
    add_suite_options,
    clock,
    order_of,
    queue_of,
)
from bench.cli._options import shown_path as shown
from bench.cli._verb import add_verb
from bench.cli.board import left_alone
from bench.disk.storage import storage_fault
from bench.execution.schedule import Executor, Progress, summary
from bench.execution.slurm import SlurmExecutor
from bench.experiment.suite import warning_of
from bench.results.store import Store
from bench.text.plain import one_line
from bench.text.secrets import without_secrets

if TYPE_CHECKING:
    from bench.board.section import Section

ABOUT = """\
Run a suite and make its tables. Rows appear as they are finished; stop and start it at will: finished
cells are kept, a cell that was cut off goes on from its last epoch.

  python -m bench run                                 the paper's grid, as large as this machine can
  python -m bench run --suite smoke                   a few cells, minutes on a CPU
  python -m bench run --datasets book --methods sasrec,dros --scale small --seeds 0,1,2
  python -m bench run --methods sasrec --tune 4       with a small search on validation first
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "run", "run a suite and make its tables", ABOUT)
    add_suite_options(parser)
    add_store_options(parser)
    add_how_options(parser)
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Run the suite; 0 if no cell failed."""
    try:
        with _ends_as_an_interrupt():
            return _main(options)
    except OSError as fault:
        if disk := storage_fault(fault):
            raise disk from fault
        raise


def _main(options: argparse.Namespace) -> int:
    store = default_store(options.out, options.store)
    check_ours(Path(options.out))
    queue = queue_of(options)
    prepared = prepare(order_of(options), store)
    jobs = SlurmExecutor(queue, store) if queue else None
    banner(prepared)
    try:
        return _run(options, prepared, jobs or _local(prepared))
    except KeyboardInterrupt:
        if options.reuse != "never":
            raise
        print(
            "\nstopped; the same command would begin every cell anew. Without --reuse never it goes on "
            "where it was, and cells that have a row, older ones too, keep it",
            file=sys.stderr,
        )
        return 130


def _run(options: argparse.Namespace, prepared: Prepared, executor: Executor) -> int:
    store = prepared.store
    began = time.monotonic()
    claim(Path(options.out))
    board = _Board(store, options.out)
    with Watch(store, prepared.plan) as watch:

        def notify(progress: Progress) -> None:
            watch(progress)
            board(progress.rows)

        rows = execute(prepared, notify=notify, executor=executor)
        watch(Progress([], rows=rows, began=began))
    for line in kept_faults(prepared):
        print(line)
    index = board.write()
    for line in left_alone(Path(options.out)):
        print(line)
    jobs, later = prepared.plan.jobs, sum(job.later for job in prepared.plan.jobs)
    parts = [*summary(rows), f"from the store {len(jobs) - len(prepared.plan.todo) - later}"]
    parts += [f"for later {later}"] if later else []
    for line in compared(rows):
        print(line)
    print(f"{', '.join(parts)} in {clock(time.monotonic() - began)}; tables: {index}")
    if said := board.headline():
        print(said)
    return 1 if without_backbone(prepared) or any(row.status == "failed" for row in rows) else 0


def without_backbone(prepared: Prepared) -> bool:
    """Whether a cell is left out that was to run on the language model the user named."""
    named = prepared.order.choice.backbone
    return named is not None and any(c.backbone == named for c, _ in prepared.plan.left_out)


@contextlib.contextmanager
def _ends_as_an_interrupt() -> Iterator[None]:
    """Let a request to end (kill, a closed terminal, a shutdown) do in the body what Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # what is ignored stays ignored: nohup asks for that
    taken = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def banner(prepared: Prepared) -> None:
    """Say what will run, at which scale and why."""
    choice, plan = prepared.order.choice, prepared.plan
    print(f"{prepared.suite.title}")
    print(f"scale {choice.scale} ({prepared.why_scale}), profile {choice.profile}")
    if warning := warning_of(choice.scale):
        print(f"*** scale {choice.scale}: {warning} ***")
    print(
        f"{len(plan.todo)} of {len(plan.jobs)} cells to run, {len(plan.left_out)} left out; "
        f"about {clock(plan.wall)}"
    )
    for line in rests_on(prepared):
        print(line)


def kept_faults(prepared: Prepared) -> Iterator[str]:
    """The failed and left-out cells that are not run again, with their reasons and the way out."""
    kept = [
        job
        for job in prepared.plan.jobs
        if not (job.todo or job.later) and job.hit in {"failed", "left out"}
    ]
    for job in kept:
        row = prepared.store.find(job.cell)
        yield f"{job.hit} before: {job.cell.name}: {row.reason if row else 'no row'}"
    if kept:
        yield f"{len(kept)} cell(s) without a result are kept as they are; --retry runs them again"


def _local(prepared: Prepared) -> Executor:
    executor = local_executor(prepared)
    print(executor.places)
    return executor


class _Board:
    """Rebuilds the tables whenever rows were added, as often as leaves the cells their time."""

    EVERY_SECONDS = 20.0  # between the end of a write and the next, at least
    SHARE = 10.0  # that pause in durations of the last write, while which no cell can start

    def __init__(self, store: Store, out: str) -> None:
        self.store, self.out = store, out
        self._seen, self._not_before = 0, -math.inf
        self._left_out = LeftOut()
        self._sections: Sequence[Section] = ()

    def __call__(self, rows: list[Row]) -> None:
        began = time.monotonic()
        if len(rows) > self._seen and began >= self._not_before:
            self._seen = len(rows)
            try:
                self.write()
            except Exception as fault:  # the cells go on; what is wrong is raised at the end
                print(f"the tables wait: {one_line(without_secrets(str(fault)))}")
            end = time.monotonic()
            self._not_before = end + max(self.EVERY_SECONDS, self.SHARE * (end - began))

    def write(self) -> str:
        from bench.board import write_board

        rows, out = self.store.rows, Path(self.out)
        write_board(rows, out, self.store.published, tell=self._left_out, hear=self._hear)
        return shown(Path(self.out) / "README.md")

    def headline(self) -> str:
        """What the tables say, in a sentence."""
        from bench.board import headline

        return headline(self._sections)

    def _hear(self, sections: Sequence[Section]) -> None:
        self._sections = sections
