"""``bench plan``: what a run would do and take, without doing it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from bench.api import Prepared, default_store, prepare
from bench.board.folder import check_ours
from bench.cli._foretold import foreseen, size, some_of, time_of
from bench.cli._options import (
    add_how_options,
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
Print the cells of a suite in the order they would run, what the store already has, and what each will take.
It takes every option of `bench run`: put one verb in place of the other.

A time is that of such a cell made here, or with ~ foretold from other rows made here, from `bench calibrate`
and from published rows; four times of five it lies in the interval beside it. Memory is the host's at its
peak, disk is what is kept. The column "on" is what a cell runs on: its GPUs, one a process, or what it took
of one at the peak of an earlier row, so that it may share it with others; or the CPU and the processes that
share the cell's work there.

  python -m bench plan --suite paper --scale small --datasets book --data-root data
  python -m bench plan --suite paper --budget 8h --price 0.05
  python -m bench plan --suite paper --scale full --device H100 --price 2.5
"""
HEADS = ("", "cell", "", "time", "4 of 5 times", "memory", "disk", "on", "")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "plan", "what a run would do, and how long it may take", ABOUT)
    add_suite_options(parser)
    add_how_options(parser)
    group = parser.add_argument_group("what it takes")
    group.add_argument(
        "--device",
        metavar="NAME",
        help="foretell from the rows of another machine, own or published, whose name in the tables of cost "
        "contains NAME, e.g. H100",
    )
    group.add_argument(
        "--price",
        type=_price,
        help="what an hour of a GPU costs, or without GPUs an hour of a CPU core, in any currency",
    )
    add_store_options(parser)
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print the plan."""
    check_ours(Path(options.out))
    order = replace(order_of(options), machine=options.device)
    prepared = prepare(order, default_store(options.out, options.store))
    banner(prepared)
    table = [_line(number, job, prepared) for number, job in enumerate(prepared.plan.jobs, 1)]
    print(tabulate(table, headers=HEADS, tablefmt="simple"))
    for line in (
        *foreseen(prepared),
        *_left_out(prepared),
        *kept_faults(prepared),
        *_later(prepared),
    ):
        print(line)
    print(_hits(prepared))
    for line in _totals(prepared, options.price):
        print(line)
    return 1 if without_backbone(prepared) else 0


def _line(number: int, job: Job, prepared: Prepared) -> list[object]:
    start = [number, job.cell.name, _state(job)]
    asked = "" if job.asked else "needed by others"
    if not (job.todo or job.later):
        return [*start, "", "", "", "", "", asked]
    time, interval = time_of(job.forecast)
    memory, disk = size(job.forecast.host_bytes), size(job.forecast.disk_bytes)
    return [*start, time, interval, memory, disk, runs_on(job, prepared.device), asked]


def _left_out(prepared: Prepared) -> Iterator[str]:
    why: dict[str, list[str]] = {}
    for cell, reason in prepared.plan.left_out:
        why.setdefault(reason, []).append(cell.name)
    for reason, labels in why.items():
        yield f"left out ({len(labels)}): {some_of(labels)}\n    {reason}"


def _later(prepared: Prepared) -> Iterator[str]:
    later = sum(job.later for job in prepared.plan.jobs)
    if later:
        budget = clock(prepared.order.budget or 0.0)
        yield f"{later} cell(s) do not fit into {budget}; the same command without --budget runs them"


def _hits(prepared: Prepared) -> str:
    hits = [job for job in prepared.plan.jobs if job.hit in {*KEPT, "foreign"}]
    foreign = sum(job.hit == "foreign" for job in hits)
    return f"{len(hits)} of {len(prepared.plan.jobs)} cells have a row" + (
        f"; {foreign} of these are published, or made elsewhere: --reuse rows takes them"
        if foreign
        else ""
    )


def _totals(prepared: Prepared, price: float | None) -> Iterator[str]:
    """What all that runs takes together."""
    plan, site = prepared.plan, prepared.plan.site
    low, high = (clock(plan.wall * math.exp(sign * plan.spread)) for sign in (-1, 1))
    yield f"about {clock(plan.wall)} in all ({low} - {high}), {site.places} cell(s) at a time"
    unit = "GPU hours" if site.device == "cuda" else "core hours"
    parts = [f"{plan.hours:.1f} {unit}"]
    parts += [f"{plan.hours * price:.2f} at {price:g} each"] if price is not None else []
    disk = [job.forecast.disk_bytes for job in plan.todo]
    known = [value for value in disk if value is not None]
    if known:
        unknown = (
            f" and that of {len(disk) - len(known)} cells more" if len(known) < len(disk) else ""
        )
        parts.append(f"{size(sum(known))} on disk{unknown}")
    peaks = [job.forecast.host_bytes for job in plan.todo]
    peak = max((value for value in peaks if value is not None), default=None)
    parts += [f"at most {size(peak)} of memory a cell"] if peak is not None else []
    yield ", ".join(parts)


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
    if job.later:
        return "later"
    if job.todo:
        return f"run ({why[job.hit]})" if job.hit in why else "run"
    kept = "kept" if job.hit == "done" else f"kept: {job.hit}"
    return f"{kept} ({', '.join(job.changed)})" if job.changed else kept


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not (0 <= price < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r} is not a price, e.g. 2.5")
    return price
