"""A tiny board made by hand: six test rows of four users, four configurations."""

from __future__ import annotations

import json

import numpy as np

from bench.cell import Cell, K, Row
from bench.evaluation.lists import Lists, distinct
from bench.evaluation.positions import MISSING, Positions
from bench.results.packed import Packed

USER = np.array([1, 1, 2, 3, 4, 4])
TARGET = np.array([11, 12, 11, 13, 14, 12])
COLD = np.array([0, 0, 0, 1, 1, 1], bool)
NASTY = 'no GPU | <script>alert("1")</script> & 8_GiB, 50 % {of} it'
M = MISSING
VALID = Positions(np.array([0] + 7 * [M], np.uint8))  # NDCG@5 = 1 / 8
#            row   0  1  2  3  4  5
RANKS = {
    ("sasrec", 0): [0, 1, M, M, M, M],
    ("sasrec", 1): [0, 4, M, M, M, M],
    ("popularity", 0): [M, M, 9, M, M, M],
    ("bigrec", 0): [0, M, M, 0, 2, M],
}
FAMILY = {"sasrec": "traditional", "popularity": "floor", "bigrec": "llm", "llara": "llm"}


def cell(method, seed=0, **rest):
    llm = FAMILY[method] == "llm"
    given = {
        "dataset": "office",
        "data_version": "0123456789abcdef",
        "scale": "small",
        "loss": "lml" if llm else None,
        "decoder": "beam" if llm else None,
        "backbone": "scratch" if llm else None,
    }
    return Cell(method=method, seed=seed, **(given | rest))


def done(ranks, of):
    positions = Positions(np.array(ranks, np.uint8))
    masks = {"warm": ~COLD, "cold": COLD}
    row = Row(
        cell=of,
        status="done",
        n=len(ranks),
        cost={
            "fit": {"seconds": 8.0 + of.seed, "peak_host_bytes": 2.0**30, "joules": None},
            "recommend": {"seconds": 2.0, "users_per_second": 3.0, "peak_host_bytes": 2.0**29},
        },
        facts={"family": FAMILY[of.method], "parameters_total": 1234, "upstream_seconds": 0.0},
        provenance={
            "date": f"2025-11-2{of.seed}T01:02:03Z",
            "commit": "abcdef",
            "machine": "2 x cpu",
        },
    )
    return row, Packed(positions, positions, USER, masks, VALID, TARGET)


def lists_of(rows, count=(5, 3, 0, 2)):
    """Lists of the titles 1 to 4, of which the third was never trained on."""
    title_QK = np.zeros((len(rows), K), np.int32)
    for q, row in enumerate(rows):
        title_QK[q, : len(row)] = row
    title_D = distinct(title_QK)
    count_D = np.array(count, np.int32)[title_D - 1]
    return Lists(title_QK, title_D, count_D, count_D > 0, n_titles=4, n_train=10)


def write(folder, row, packed=None, name=None):
    name = name or f"{row.cell.method}-{row.cell.slot}"
    path = folder / row.cell.dataset / row.cell.scale / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        packed.save(path.with_suffix(".npz"))
    path.write_text(json.dumps(row.as_dict()))
    return path


def tiny_board(folder):
    for (method, seed), ranks in RANKS.items():
        write(folder, *done(ranks, cell(method, seed)))
    facts = {"family": "llm", "title": "LLaRA <b>*bold*</b>"}
    write(folder, Row(cell=cell("llara"), status="left out", reason=NASTY, facts=facts))
    return folder
