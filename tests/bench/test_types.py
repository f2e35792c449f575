"""The nouns: ragged rows, title classes, the published sample."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.types import Catalogue, Exam, Queries, Ragged, Windows

ROWS = st.lists(st.lists(st.integers(1, 9), max_size=5), max_size=6)


@given(ROWS)
def test_a_ragged_gives_its_rows_back(rows):
    assert [list(row) for row in Ragged.of(rows)] == rows


@given(ROWS.filter(len), st.integers(1, 6))
def test_padding_keeps_the_most_recent_values(rows, width):
    ragged = Ragged.of(rows)
    left, right = (ragged.padded(width, align=side) for side in ("left", "right"))
    for row, left_row, right_row in zip(rows, left, right, strict=True):
        kept = row[-width:]
        assert list(left_row) == kept + [0] * (width - len(kept))
        assert list(right_row) == [0] * (width - len(kept)) + kept


@given(ROWS.filter(len), st.data())
def test_take_and_append(rows, data):
    ragged = Ragged.of(rows)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1)))
    taken = ragged.take(np.array(chosen, int))
    assert [list(row) for row in taken] == [rows[i] for i in chosen]
    longer = ragged.append(np.arange(len(rows)))
    assert [list(row) for row in longer] == [[*row, i] for i, row in enumerate(rows)]
    assert list(ragged.last) == [row[-1] if row else 0 for row in rows]


def test_items_of_one_title_are_one_class_and_empty_titles_stay_apart():
    catalogue = Catalogue(("", "Emma", "", "Emma", "Ulysses", ""))
    assert list(catalogue.title_class) == [0, 1, 2, 1, 4, 5]
    assert catalogue.n_items == 5


def _windows(n: int) -> Windows:
    catalogue = Catalogue(("", *"abc"))
    history = Ragged.of([[1 + i % 3] for i in range(n)])
    return Windows(catalogue, np.arange(n), history, np.full(n, 2, np.int32), np.arange(n))


def test_the_training_sample_is_the_one_the_authors_drew():
    rows = _windows(12)
    expected = np.random.RandomState(42).choice(12, 5, replace=False)
    assert list(rows.sample(5).user_W) == list(expected)
    assert rows.sample(None) is rows
    assert rows.sample(12) is rows


def test_an_exam_sample_keeps_file_order_and_aligns_targets():
    rows = _windows(30)
    exam = Exam(Queries(rows.catalogue, rows.user_W, rows.history, rows.timestamp_W), np.arange(30))
    part = exam.sample(7)
    assert list(part.target_Q) == sorted(part.target_Q)
    assert list(part.queries.user_Q) == list(part.target_Q)


def test_seen_counts_histories_and_targets():
    rows = _windows(2)  # histories 1 and 2, target 2
    assert list(rows.seen) == [False, True, True, False]
    assert list(rows.target_count) == [0, 0, 2, 0]
