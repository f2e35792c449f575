"""Strata on five queries drawn below, and on the published Book split where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.exams import exam as exam_of
from bench.data.load import load_dataset
from bench.evaluation.metrics import gains, rank_counts
from bench.evaluation.positions import MISSING, Positions
from bench.evaluation.series import stems
from bench.evaluation.strata import DAY, PARTITIONS, strata
from bench.types import Catalogue, Ragged, Split, Windows

TITLES = ("", "Freed (Bay) (Volume 2)", "Alpha", "Fear (Bay)", "Beta", "Gamma: A Novel", "Alpha")


def windows(rows, titles=TITLES):
    """rows: (user, history, target, and perhaps the time in days)."""
    return Windows(
        Catalogue(titles),
        np.array([r[0] for r in rows]),
        Ragged.of([r[1] for r in rows]),
        np.array([r[2] for r in rows]),
        np.array([int(DAY * r[3]) if len(r) > 3 else 0 for r in rows]),
    )


def exam(rows):
    return exam_of(windows(rows))


def split(train, test):
    """Without validation rows."""
    return Split(train, test.take(np.arange(0)), test)


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
    found = {
        name: mask.astype(int).tolist() for name, mask in strata(TEST, split(TRAIN, TEST)).items()
    }
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
        "title_old": [1, 1, 1, 1, 0],
        "title_new": [0, 0, 0, 0, 1],
        "series": [1, 0, 1, 0, 0],
        "no_series": [0, 1, 0, 1, 1],
        "same_day": [1, 0, 0, 1, 0],
        "later_day": [0, 0, 0, 0, 0],
        "day_unknown": [0, 1, 1, 0, 1],
    }


def test_an_item_never_trained_on_has_an_old_title_if_its_twin_was_trained_on():
    asked = exam([(9, [1], 6)])  # a second "Alpha"
    found = strata(asked, split(TRAIN, asked))
    assert (found["cold"].tolist(), found["title_old"].tolist()) == ([True], [True])


def test_the_last_item_is_dated_by_the_window_that_has_it_as_target():
    train = windows([(7, [4], 1, 3.2), (7, [4, 1], 2, 5.0), (8, [4], 1, 3.0)])
    test = exam(
        [
            (7, [4, 1, 2], 3, 5.9),  # 2 was bought on day 5
            (7, [4, 1, 2], 5, 6.1),
            (8, [4], 1, 3.5),  # nothing dates item 4
            (8, [4, 1], 1, 4.0),  # dated by training, not by this row itself
            (9, [2], 2, 5.0),  # dated by nothing but itself
        ]
    )
    found = strata(test, split(train, test))
    days = ("same_day", "later_day", "day_unknown")
    assert [next(d for d in days if found[d][q]) for q in range(5)] == [
        "same_day",
        "later_day",
        "day_unknown",
        "later_day",
        "day_unknown",
    ]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Freed (Rosewood Bay) (Volume 3)", {"freed", "rosewood bay"}),
        ("Captain Marvel Vol. 1: Rise of Alpha Flight", {"captain marvel"}),
        ("Super Mario - Toad Plush", {"super mario"}),
        ("Five Star Pencil Cup, Purple (72260)", {"five star pencil cup"}),
        ("Book 2", set()),
        ("", set()),
    ],
)
def test_stems_are_the_head_and_the_brackets(title, expected):
    assert stems(title) == expected


def test_means_within_a_stratum():
    found = counts_of(
        Positions(np.array([0, MISSING, 0, MISSING, 7], np.uint8)), strata(TEST, split(TRAIN, TEST))
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
    masks = strata(test, split(windows(train), test))
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


def test_shares_of_the_published_book_split():
    root = Path(os.environ.get("BENCH_DATA", Path(__file__).parents[3] / "shared/data"))
    if not (root / "book").is_dir():
        pytest.skip("the published Book files are not on this machine")
    data = load_dataset("book", root, uncut=True)
    masks = strata(data.split.test, data.split)
    assert round(float(masks["cold"].mean()), 4) == 0.6416
    assert int(masks["repeat"].sum()) == 13
    assert int(masks["series"].sum()) == 303
