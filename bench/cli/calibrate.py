"""``bench calibrate``: learn how fast this machine is."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.api import Order, default_data_root, execute, local_executor, prepare
from bench.cli._live import Watch
from bench.cli._options import add_place_options, clock, shown_path
from bench.cli._verb import add_verb
from bench.execution.places import places
from bench.experiment.choice import Choice
from bench.experiment.forecast import Calibration, calibration_path
from bench.results.places import default_store
from bench.results.store import Store

ABOUT = """\
Run a few short cells of each kind of work on this machine, side by side as `bench run` would, and keep what
they took: about a minute on two cores. `bench plan` and `bench run` then foretell how long cells take that
were never run here. Rows that are made here count more, as soon as there are any.

  python -m bench calibrate
  python -m bench calibrate --gpus none        the CPU of a machine that has a GPU
"""
SUITES = {"cpu": "calibration", "cuda": "calibration_gpu"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = add_verb(subparsers, "calibrate", "learn how fast this machine is, in a minute", ABOUT)
    add_place_options(parser)
    parser.add_argument("--data-root", help="folder of the datasets (default: $BENCH_DATA)")
    parser.add_argument("--store", help="run store (default: $BENCH_STORE or .bench)")
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Run the cells and keep what they took; 0 if all of them were finished."""
    device = places(options.jobs, options.gpus).device
    usual = default_store(store=options.store)
    path = calibration_path(usual.root, device)
    order = Order(
        suite=SUITES[device],
        choice=Choice(scale="embedded", data_root=default_data_root(options.data_root)),
        jobs=options.jobs,
        gpus=options.gpus,
    )
    with tempfile.TemporaryDirectory(prefix="bench-calibration-") as folder:
        store = Store(Path(folder) / "rows", Path(folder) / "run", usual.published)
        prepared = prepare(order, store)
        print(f"{prepared.suite.title}: {len(prepared.plan.todo)} cells")
        with Watch(store, prepared.plan) as watch:
            rows = execute(prepared, notify=watch, executor=local_executor(prepared))
    done = [row for row in rows if row.status == "done"]
    if not done:
        print("no cell was finished, so nothing is known of this machine")
        return 1
    calibration = Calibration.of(done)
    calibration.write(path)
    took = sum(row.provenance["wall_seconds"] for row in done)
    made = f"{calibration.machine}, torch {calibration.torch}"
    print(f"{made}: {len(done)} cells, {clock(took)} together, kept in {shown_path(path)}")
    return 0 if len(done) == len(prepared.plan.jobs) + len(prepared.plan.left_out) else 1
