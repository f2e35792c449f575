"""Strata on five queries drawn below, and on the published Book split where it is at hand."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.evaluation.metrics import gains, rank_counts
from bench.evaluation.positions import MISSING, Positions
from bench.evaluation.strata import PARTITIONS, strata
from bench.types import Catalogue, Exam, Queries, Ragged, Windows


def windows(rows, n_items=6):
    """rows: (user, history, target)."""
    catalogue = Catalogue(("", *(f"t{i}" for i in range(n_items))))
    return Windows(
        catalogue,
        np.array([r[0] for r in rows]),
        Ragged.of([r[1] for r in rows]),
        np.array([r[2] for r in rows]),
        np.zeros(len(rows), np.int64),
    )


def exam(rows, n_items=6):
    w = windows(rows, n_items)
    return Exam(Queries(w.catalogue, w.user_W, w.history, w.timestamp_W), w.target_W)


# targets: item 1 five times, 2 three times, 3 twice; 4 only ever in a history; 5 and 6 nowhere
TRAIN = windows([(7, [4], t) for t in (1, 1, 1, 1, 1, 2, 2, 2, 3, 3)])
#              user history              target
TEST = exam(
    [
        (7, [1, 2], 1),  # warm head short repeat seen
        (8, [1] * 5, 2),  # warm mid medium new unseen
        (8, [1] * 10, 3),  # warm tail full new unseen
        (8, [5], 4),  # warm (in a history), tail short new unseen
        (8, [1], 5),  # cold tail short new unseen
    ]
)


def test_every_query_lands_where_the_table_says():
    found = {name: mask.astype(int).tolist() for name, mask in strata(TEST, TRAIN).items()}
    assert found == {
        "warm": [1, 1, 1, 1, 0],
        "cold": [0, 0, 0, 0, 1],
        "head": [1, 0, 0, 0, 0],
        "mid": [0, 1, 0, 0, 0],
        "tail": [0, 0, 1, 1, 1],
        "history_short": [1, 0, 0, 1, 1],
        "history_medium": [0, 1, 0, 0, 0],
        "history_full": [0, 0, 1, 0, 0],
        "repeat": [1, 0, 0, 0, 0],
        "new_to_user": [0, 1, 1, 1, 1],
        "user_seen": [1, 0, 0, 0, 0],
        "user_unseen": [0, 1, 1, 1, 1],
    }


def test_means_within_a_stratum():
    found = counts_of(
        Positions(np.array([0, MISSING, 0, MISSING, 7], np.uint8)), strata(TEST, TRAIN)
    )
    assert found["warm"].n == 4
    assert found["warm"].mean("hit@10") == 0.5
    assert found["cold"].mean("hit@10") == 1.0
    assert found["cold"].mean("hit@5") == 0.0
    assert (found["mid"].n, found["mid"].mean("ndcg@10")) == (1, 0.0)


def test_an_empty_stratum_is_zero_of_zero():
    found = rank_counts(Positions(np.array([0, 1], np.uint8)), np.zeros(2, bool))
    assert (found.n, found.mean("hit@1")) == (0, 0.0)


def counts_of(positions, masks):
    return {name: rank_counts(positions, mask) for name, mask in masks.items()}


row = st.tuples(
    st.integers(1, 4), st.lists(st.integers(1, 6), min_size=1, max_size=11), st.integers(1, 6)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(row, min_size=1, max_size=20), st.lists(row, min_size=1, max_size=20), st.data())
def test_strata_of_a_partition_sum_to_the_whole(train, test, data):
    test = exam(test)
    masks = strata(test, windows(train))
    rank = st.integers(0, 9) | st.just(MISSING)
    ranks = data.draw(st.lists(rank, min_size=len(test), max_size=len(test)))
    positions = Positions(np.array(ranks, np.uint8))
    parts = counts_of(positions, masks)
    assert set(parts) == {name for names in PARTITIONS.values() for name in names}
    for names in PARTITIONS.values():
        assert sum(masks[name].astype(int) for name in names).tolist() == [1] * len(test)
        for metric, gain_Q in gains(positions).items():
            total = sum(parts[name].n * parts[name].mean(metric) for name in names)
            assert total / len(test) == pytest.approx(gain_Q.mean(), abs=1e-12)


def published(path):
    with path.open(encoding="utf-8") as lines:
        rows = [(int(r["user_id"]), json.loads(r["item_ids"])) for r in csv.DictReader(lines)]
    return windows([(user, items[:-1], items[-1]) for user, items in rows], n_items=6344)


def test_cold_share_of_the_published_book_split():
    folder = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared/data")) / "book"
    if not folder.is_dir():
        pytest.skip("the published Book files are not on this machine")
    train, test = published(folder / "train.csv"), published(folder / "test.csv")
    asked = Exam(
        Queries(test.catalogue, test.user_W, test.history, test.timestamp_W), test.target_W
    )
    masks = strata(asked, train)
    assert round(float(masks["cold"].mean()), 4) == 0.6416
    assert int(masks["repeat"].sum()) == 13
