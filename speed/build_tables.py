"""Seconds to build every table of many rows: first, and again from the cache.

    python -m speed.build_tables --rows 10000 --queries 4000

The rows are made up: four datasets, three scales, some eighty configurations a table and ten seeds of each,
with the arrays that real rows have. Printed are wall and CPU seconds, all processes; peak memory is of the
first.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.board import write_board
from bench.cell import Cell, Row
from bench.disk.storage import write_json
from bench.evaluation.lists import Lists, distinct
from bench.evaluation.positions import MISSING, Positions
from bench.evaluation.strata import PARTITIONS
from bench.results.packed import Packed

DATASETS, SCALES, SEEDS = ("toy", "book", "clothing", "office"), ("full", "small", "embedded"), 10
METHODS = ("sasrec", "bigrec", "llara", "gru4rec", "bert4rec", "item_knn")
N_ITEMS = 6000


def main() -> None:
    """Make the rows, build twice, print the seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=4_000)
    parser.add_argument("--folder", type=Path, help="keep the rows here (default: thrown away)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if not (folder / "rows").is_dir():
            make_rows(folder / "rows", options.rows, options.queries)
        seconds = {}
        for build in ("first", "second"):
            start, cpu = time.perf_counter(), _cpu_seconds()
            write_board(folder / "rows", folder)
            seconds[build] = round(time.perf_counter() - start, 2)
            seconds[f"{build}_cpu"] = round(_cpu_seconds() - cpu, 2)
        packs = [path.stat().st_size for path in (folder / "rows").rglob("*.npz")]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    bytes_a_row = round(float(np.mean(packs)))
    print(json.dumps({"rows": len(packs), "bytes_a_row": bytes_a_row, "peak_mib": peak, **seconds}))


def _cpu_seconds() -> float:
    """Spent by this process and the workers that it has ended: trust it where the machine is shared."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def make_rows(folder: Path, n_rows: int, n_queries: int) -> None:
    """Write rows with their packed files."""
    tables = [(dataset, scale) for dataset in DATASETS for scale in SCALES]
    made = 0
    for configuration in range(n_rows):
        for number, (dataset, scale) in enumerate(tables):
            exam = np.random.default_rng(number)
            user_Q = exam.integers(0, int(0.85 * n_queries), n_queries)
            target_Q = exam.integers(1, N_ITEMS + 1, n_queries).astype(np.int32)
            masks = _masks(exam, n_queries)
            for seed in range(SEEDS):
                if made == n_rows:
                    return
                cell = _cell(dataset, scale, configuration, seed)
                rng = np.random.default_rng([configuration, number, seed])
                packed = _packed(rng, user_Q, target_Q, masks, 0.03 + 0.001 * configuration)
                _write(folder, cell, packed)
                made += 1


def _cell(dataset: str, scale: str, configuration: int, seed: int) -> Cell:
    return Cell(
        dataset=dataset,
        data_version="0123456789abcdef",
        method=METHODS[configuration % len(METHODS)],
        scale=scale,
        seed=seed,
        config={"width": 8 * (configuration + 1), "epochs": 10, "dropout": 0.1},
    )


def _masks(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    masks = {}
    for names in PARTITIONS.values():
        part_Q = rng.integers(0, len(names), n)
        masks |= {name: part_Q == part for part, name in enumerate(names)}
    return masks


def _packed(
    rng: np.random.Generator,
    user_Q: np.ndarray,
    target_Q: np.ndarray,
    masks: dict[str, np.ndarray],
    rate: float,
) -> Packed:
    n = len(user_Q)
    position_Q = np.where(rng.random(n) < rate, rng.integers(0, 10, n), MISSING).astype(np.uint8)
    positions = Positions(position_Q)
    title_QK = 1 + (N_ITEMS * rng.random((n, 10)) ** 3).astype(np.int32)
    title_D = distinct(title_QK)
    count_D = rng.poisson(5, len(title_D)).astype(np.int32)
    lists = Lists(title_QK, title_D, count_D, count_D > 0, N_ITEMS, 50_000)
    return Packed(positions, positions, user_Q, masks, positions, target_Q, lists)


def _write(folder: Path, cell: Cell, packed: Packed) -> None:
    path = folder / cell.dataset / cell.scale / f"{cell.method}-{cell.seed}-{cell.slot}.json"
    phase = {"seconds": 1.0, "peak_host_bytes": 2.0**30, "cpu_seconds": 1.0, "joules": None}
    row = Row(
        cell=cell,
        status="done",
        n=len(packed),
        cost={"fit": phase, "recommend": phase},
        facts={"family": "traditional", "parameters_total": 1000, "epochs": 10},
        provenance={"date": "2026-01-01T00:00:00Z", "commit": "abcdef", "machine": "made up"},
    )
    write_json(path, row.as_dict())
    packed.save(path.with_suffix(".npz"))


if __name__ == "__main__":
    main()
