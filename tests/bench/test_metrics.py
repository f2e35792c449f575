"""Metrics on lists small enough to read, then against brute force and an independent scorer."""

from __future__ import annotations

import itertools
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import ContractError
from bench.evaluation.checks import check_ranking
from bench.evaluation.metrics import (
    evaluate,
    gains,
    means,
)
from bench.evaluation.positions import MISSING, Positions, positions
from bench.types import Catalogue, Exam, Queries, Ragged, RandomTail, Ranking

# ids     1    2    3    4    5
TITLES = ("", "a", "b", "a", "c", "b")  # classes: a = {1, 3}, b = {2, 5}, c = {4}
COUNT = np.array([0, 1, 5, 9, 0, 5])  # within a: 3 before 1; within b: tie, so 2 before 5


def exam_of(targets, titles=TITLES):
    targets = np.asarray(targets)
    queries = Queries(
        Catalogue(tuple(titles)),
        np.arange(len(targets)),
        Ragged.of([[1]] * len(targets)),
        np.zeros(len(targets), np.int64),
    )
    return Exam(queries, targets)


def ranks(items, targets, identity, names="item", tail=None):
    exam = exam_of(targets)
    found = positions(
        Ranking(np.asarray(items), tail=tail),
        exam,
        identity=identity,
        train_count=COUNT,
        names=names,
    )
    return found.position_Q.tolist()


def test_titles_drop_later_repeats_then_count():
    #   a  b  a  c        a  b  c
    items = [[1, 2, 3, 4]] * 4
    assert ranks(items, [3, 5, 4, 1], "title") == [0, 1, 2, 0]


def test_items_as_they_are():
    assert ranks([[1, 2, 3, 4]] * 5, [3, 5, 4, 1, 2], "item") == [2, MISSING, 3, 0, 1]


def test_title_lists_are_spelt_out_by_popularity_then_id():
    # [a, b, c] -> 3 1 2 5 4
    items = [[1, 2, 4, 0]] * 5
    assert ranks(items, [3, 1, 2, 5, 4], "item", names="title") == [0, 1, 2, 3, 4]


def test_padding_is_never_a_hit():
    assert ranks([[2, 0, 0]], [4], "title") == [MISSING]


def test_a_target_beyond_the_cut_is_missing():
    titles = [""] + [f"t{i}" for i in range(1, 13)]
    lists = Ranking(np.arange(1, 13)[None])
    found = [
        positions(
            lists, exam_of([t], titles), identity="title", train_count=np.zeros(13)
        ).position_Q
        for t in (10, 11)
    ]
    assert [int(f[0]) for f in found] == [9, MISSING]


def test_gains_by_hand():
    found = gains(Positions(np.array([0, 1, 4, 5, 9, MISSING], np.uint8)))
    assert found["hit@1"].tolist() == [1, 0, 0, 0, 0, 0]
    assert found["hit@5"].tolist() == [1, 1, 1, 0, 0, 0]
    assert found["hit@10"].tolist() == [1, 1, 1, 1, 1, 0]
    by_hand = [1.0, 1 / math.log2(3), 1 / math.log2(6), 1 / math.log2(7), 1 / math.log2(11), 0.0]
    np.testing.assert_allclose(found["ndcg@10"], by_hand, rtol=1e-15)
    np.testing.assert_allclose(found["ndcg@5"], [*by_hand[:3], 0, 0, 0], rtol=1e-15)


def test_failed_queries_are_misses():
    exam = exam_of([1, 1])
    lists = Ranking(np.array([[1], [1]]), failed_Q=np.array([False, True]))
    assert evaluate(lists, exam, train_count=COUNT)["hit@10"] == 0.5


@pytest.mark.parametrize("identity", ["title", "item"])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_random_tail_is_the_mean_over_all_orders(identity, start):
    # pool: items 2, 4, 5; under titles the draws are b and c
    pool = np.array([False, False, True, False, True, True])
    for target in (1, 2, 4, 5):
        head = [1, 2][:start]
        lists = Ranking(np.array([[1, 2, 9 * 0]]), tail=RandomTail(np.array([start]), pool))
        found = positions(lists, exam_of([target]), identity=identity, train_count=COUNT)
        key = (lambda i: TITLES[i]) if identity == "title" else (lambda i: i)
        rest = sorted({key(i) for i in (2, 4, 5)} - {key(i) for i in head})
        orders = [[key(i) for i in head] + list(tail) for tail in itertools.permutations(rest)]
        for k in (1, 5, 10):
            ndcg = [
                1 / math.log2(order.index(key(target)) + 2) if key(target) in order[:k] else 0.0
                for order in orders
            ]
            assert gains(found)[f"ndcg@{k}"][0] == pytest.approx(np.mean(ndcg), rel=1e-6)


def test_what_stands_in_the_random_part_does_not_count():
    pool = np.array([False, False, False, False, True, True])
    lists = Ranking(np.array([[1, 4]]), tail=RandomTail(np.array([1]), pool))
    found = positions(lists, exam_of([4]), identity="item", train_count=COUNT)
    assert found.position_Q.tolist() == [MISSING]
    assert means(found)["hit@10"] == pytest.approx(1.0)  # both draws fit into ten places
    assert means(found)["hit@1"] == 0.0


catalogue_titles = st.lists(st.sampled_from("abcdef"), min_size=12, max_size=12)


@settings(max_examples=60, deadline=None)
@given(catalogue_titles, st.data())
def test_agrees_with_the_dull_version(titles, data):
    titles = ["", *titles]
    items = data.draw(st.permutations(range(1, 13)))
    target = data.draw(st.integers(1, 12))
    count = np.array([0, *data.draw(st.lists(st.integers(0, 3), min_size=12, max_size=12))])
    width = data.draw(st.integers(1, 12))
    lists = Ranking(np.array([items[:width]]))
    exam = exam_of([target], titles)

    classes = list(dict.fromkeys(titles[i] for i in items[:width]))
    spelt = [i for t in classes for i in _members(titles, t, count)]
    expected = {
        ("title", "item"): (classes, titles[target]),
        ("title", "title"): (classes, titles[target]),
        ("item", "item"): (items[:width], target),
        ("item", "title"): (spelt, target),
    }
    for (identity, names), (answers, wanted) in expected.items():
        found = positions(lists, exam, identity=identity, train_count=count, names=names)
        rank = list(answers)[:10].index(wanted) if wanted in list(answers)[:10] else MISSING
        assert found.position_Q[0] == rank, (identity, names)


def _members(titles, title, count):
    members = [i for i in range(1, len(titles)) if titles[i] == title]
    return sorted(members, key=lambda i: (-count[i], i))


def test_agrees_with_ir_measures():
    rng = np.random.default_rng(5)
    n_items, n = 40, 300
    titles = ["", *(f"t{i}" for i in range(n_items))]
    item_QK = np.stack([rng.permutation(np.arange(1, n_items + 1))[:10] for _ in range(n)])
    exam = exam_of(rng.integers(1, n_items + 1, n), titles)
    ours = evaluate(Ranking(item_QK), exam, train_count=np.zeros(n_items + 1))
    run = {
        str(q): {str(i): float(10 - rank) for rank, i in enumerate(row)}
        for q, row in enumerate(item_QK)
    }
    qrels = {str(q): {str(t): 1} for q, t in enumerate(exam.target_Q)}
    cut = {f"ndcg@{k}": ir_measures.nDCG @ k for k in (1, 5, 10)}
    cut |= {f"hit@{k}": ir_measures.Success @ k for k in (1, 5, 10)}
    theirs = ir_measures.calc_aggregate(cut.values(), qrels, run)
    for name, measure in cut.items():
        assert ours[name] == pytest.approx(theirs[measure], abs=1e-12)


@pytest.mark.parametrize(
    ("items", "scores", "words"),
    [
        ([[1, 2], [3, 4], [5, 1]], None, "shape"),
        ([[1, 6], [3, 4]], None, "outside 0..5"),
        ([[1, -1], [3, 4]], None, "outside 0..5"),
        ([[0, 1], [3, 4]], None, "empty place"),
        ([[1, 1], [3, 4]], None, "twice"),
        ([[1, 2], [3, 4]], [[1.0, np.nan], [2.0, 1.0]], "not finite"),
        ([[1, 2], [3, 4]], [[1.0, 2.0], [2.0, 1.0]], "higher"),
        ([[1.0, 2.0], [3.0, 4.0]], None, "integers"),
    ],
)
def test_broken_lists_are_refused(items, scores, words):
    lists = Ranking(np.array(items), None if scores is None else np.array(scores))
    with pytest.raises(ContractError, match=words):
        check_ranking(lists, exam_of([1, 1]).queries, 2, 5)


def test_good_lists_pass():
    lists = Ranking(np.array([[1, 2, 0], [0, 0, 0]]), np.array([[2.0, 2.0, np.nan], [np.nan] * 3]))
    assert check_ranking(lists, exam_of([1, 1]).queries, 3, 5) is None
