"""What the tests of semantic ids share: a small catalogue, training rows and stages fitted on them."""

from __future__ import annotations

import numpy as np

from bench.cell import Run
from bench.method import configure, keep, restore
from bench.types import Catalogue, Exam, Queries, Ragged, Windows
from llmrec.sid.sid_tokens import SidTokens
from llmrec.title_vectors import TitleVectors

N, DIMS, SEEN = 48, 8, 40  # items above SEEN are never trained on


def titles(n=N):
    """Distinct but for items 3 and 7, which share one."""
    made = ["", *(f"thing {item * 37 % 101}" for item in range(1, n + 1))]
    made[7] = made[3]
    return tuple(made)


def vectors(n=N, seed=0):
    """By item id; equal titles have equal vectors."""
    vector_ND = np.random.default_rng(seed).normal(size=(n + 1, DIMS)).astype(np.float32)
    vector_ND[0], vector_ND[7] = 0, vector_ND[3]
    return vector_ND


def windows(names=None, items=None):
    """Item i is followed by item i + 1, through the given items in turn."""
    items = list(range(1, SEEN + 1)) if items is None else items
    rows = [[items[(at + step) % len(items)] for step in range(4)] for at in range(len(items))]
    return Windows(
        Catalogue(names or titles(), "book"),
        np.arange(len(rows)),
        Ragged.of([row[:-1] for row in rows]),
        np.array([row[-1] for row in rows], np.int32),
        np.arange(len(rows)),
    )


def exam(train, rows=6):
    queries = Queries(
        train.catalogue, np.arange(rows), train.history.take(np.arange(rows)), np.zeros(rows, int)
    )
    return Exam(queries, train.target_W[:rows])


def stage(folder, train, vector_ND, **config):
    """The stage ``sid_tokens`` fitted on these vectors, and its facts."""
    encoder = TitleVectors(configure(TitleVectors, {"text_encoder": "hash"}))
    encoder.vectors_ND = vector_ND
    if not (folder / "titles").exists():
        keep(encoder, folder / "titles")
    made = SidTokens(configure(SidTokens, {"text_encoder": "hash", "codes": 6, **config}))
    run = Run(seed=0, device="cpu", folder=folder, inputs={"titles": folder / "titles"})
    made.fit(train, exam(train), run)
    return made, run.facts


def kept_and_read(method, folder, queries):
    """The method as it is read from where it was kept; its lists have to be the same."""
    keep(method, folder)
    back = restore(folder, device="cpu")
    np.testing.assert_array_equal(
        back.recommend(queries, 5).item_QK, method.recommend(queries, 5).item_QK
    )
    return back
