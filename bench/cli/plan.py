"""``bench plan``: what a run would do, without doing it."""

from __future__ import annotations

import argparse
from pathlib import Path

from tabulate import tabulate

from bench.api import default_store, prepare
from bench.board.folder import check_ours
from bench.cli._options import (
    add_rank_option,
    add_store_options,
    add_suite_options,
    clock,
    order_of,
)
from bench.cli._verb import add_verb
from bench.cli.run import banner, kept_faults, without_backbone
from bench.execution.places import kept_for
from bench.experiment.plan import KEPT, Job

ABOUT = """\
Print the cells of a suite in the order they would run, what the store already has, and how long each may
take (measured on an earlier row of the same kind, or the method's own estimate, marked ~). The column "on" is
what a cell runs on: its GPUs, one a process, or what it took of one at the peak of an earlier row, so that it
may share it with others; or the CPU and the processes that share the cell's work there.

  python -m bench plan --suite paper --scale small --datasets book --data-root data
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "plan", "what a run would do, and how long it may take", ABOUT)
    add_suite_options(parser)
    add_rank_option(parser.add_argument_group("how"))
    add_store_options(parser)
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print the plan."""
    check_ours(Path(options.out))
    prepared = prepare(order_of(options), default_store(options.out, options.store))
    banner(prepared)
    table = []
    for number, job in enumerate(prepared.plan.jobs, 1):
        state = _state(job)
        time = ("" if job.measured else "~") + clock(job.seconds) if job.todo else ""
        asked = "" if job.asked else "needed by others"
        on = runs_on(job, prepared.device) if job.todo else ""
        table.append([number, job.cell.name, state, time, on, asked])
    print(tabulate(table, headers=["", "cell", "", "time", "on", ""], tablefmt="simple"))
    why: dict[str, list[str]] = {}
    for cell, reason in prepared.plan.left_out:
        why.setdefault(reason, []).append(cell.name)
    for reason, labels in why.items():
        some = ", ".join(labels[:3]) + (" ..." if len(labels) > 3 else "")
        print(f"left out ({len(labels)}): {some}\n    {reason}")
    for line in kept_faults(prepared):
        print(line)
    hits = [job for job in prepared.plan.jobs if job.hit in {*KEPT, "foreign"}]
    foreign = sum(job.hit == "foreign" for job in hits)
    print(
        f"{len(hits)} of {len(prepared.plan.jobs)} cells have a row"
        + (
            f"; {foreign} of these are published, or made elsewhere: --reuse rows takes them"
            if foreign
            else ""
        )
    )
    print(f"about {clock(prepared.plan.seconds)} in all, one cell after the other")
    return 1 if without_backbone(prepared) else 0


def runs_on(job: Job, device: str) -> str:
    """What a cell runs on, e.g. ``2 GPUs``, ``3.1 GiB of a GPU``, ``CPU, 2 processes``.

    Args:
        job: the cell, planned.
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        return "CPU" if job.ranks == 1 else f"CPU, {job.ranks} processes"
    if job.ranks > 1:
        return f"{job.ranks} GPUs"
    return (
        "1 GPU" if job.gpu_bytes is None else f"{kept_for(job.gpu_bytes) / 2**30:.1f} GiB of a GPU"
    )


def _state(job: Job) -> str:
    """What happens to a cell, and why."""
    why = {"stale": "another version or other data", "foreign": "its row was made elsewhere"}
    if job.todo:
        return f"run ({why[job.hit]})" if job.hit in why else "run"
    kept = "kept" if job.hit == "done" else f"kept: {job.hit}"
    return f"{kept} ({', '.join(job.changed)})" if job.changed else kept
