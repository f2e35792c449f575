"""Windows and splits from interactions, against the dull loop and the published files."""

import csv
import gzip
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.exams import NEVER, carve_valid, exam, first_seen, known_at, rows_of
from bench.data.splits import PROTOCOLS, Interactions, Protocol, make_dataset, split, windows_of
from bench.errors import ConfigError, DataError
from bench.types import Catalogue, Ragged, Windows

CATALOGUE = Catalogue(("", *(f"t{i}" for i in range(1, 31))))


def interactions(rows):
    user, item, time = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Interactions(CATALOGUE, user, item, time)


def dull_windows(rows, width, min_length):
    """The rule of the paper, as loops: (time, user, items) sorted by time, then user."""
    by_user = {}
    for user, item, time in rows:
        by_user.setdefault(user, []).append((time, item))
    out = []
    for user in sorted(by_user):
        events = sorted(by_user[user])
        if len(events) < min_length:
            continue
        for stop in range(min(width, len(events)), len(events) + 1):
            window = events[max(0, stop - width) : stop]
            out.append((window[-1][0], user, [item for _, item in window]))
    return sorted(out, key=lambda row: row[:2])


def as_tuples(windows):
    return [
        (int(t), int(u), s.tolist())
        for t, u, s in zip(windows.timestamp_W, windows.user_W, windows.sequences, strict=True)
    ]


events = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 30), st.integers(0, 25)), min_size=1, max_size=120
)


@settings(max_examples=80, deadline=None)
@given(rows=events, width=st.integers(2, 12), data=st.data())
def test_windows_are_those_of_the_dull_loop(rows, width, data):
    min_length = data.draw(st.integers(2, width))
    got = windows_of(interactions(rows), Protocol(width=width, min_length=min_length))
    assert as_tuples(got) == dull_windows(rows, width, min_length)


@given(sizes=st.lists(st.integers(2, 40), min_size=1, max_size=8))
def test_a_user_of_n_items_gives_max_1_n_minus_10_windows(sizes):
    rows = [(u, 1 + t % 30, t) for u, n in enumerate(sizes) for t in range(n)]
    windows = windows_of(interactions(rows))
    assert len(windows) == sum(max(1, n - 10) for n in sizes)
    assert windows.sequences.lengths.max() == min(11, max(sizes))


def try_split(rows, protocol):
    try:
        return split(interactions(rows), protocol)[0]
    except DataError:  # too little for three parts
        return None


crowds = st.lists(
    st.tuples(st.integers(0, 14), st.integers(1, 30), st.integers(0, 40)), min_size=30, max_size=90
)


@settings(max_examples=80, deadline=None)
@given(rows=crowds, name=st.sampled_from(["global_time", "global_time_by_user"]))
def test_no_exam_target_lies_before_the_end_of_train(rows, name):
    parts = try_split(rows, Protocol(name=name, width=4))
    if parts is None:
        return
    train_end = parts.train.timestamp_W.max()
    valid, test = (e.queries.timestamp_Q for e in (parts.valid, parts.test))
    assert valid.min() >= train_end
    assert test.min() >= valid.max()
    if name == "global_time_by_user":
        users = [set(x.tolist()) for x in _users(parts)]
        assert not (users[0] & users[1] or users[0] & users[2] or users[1] & users[2])
        assert valid.min() > train_end
        assert test.min() > valid.max()


def _users(parts):
    return parts.train.user_W, parts.valid.queries.user_Q, parts.test.queries.user_Q


@settings(max_examples=60, deadline=None)
@given(rows=events)
def test_global_time_is_a_partition_in_time_order(rows):
    parts = try_split(rows, Protocol(width=4))
    if parts is None:
        return
    everything = dull_windows(rows, 4, 2)
    n = len(everything)
    got = [as_tuples(p) for p in (parts.train, rows_of(parts.valid), rows_of(parts.test))]
    assert got[0] + got[1] + got[2] == everything
    assert [len(g) for g in got] == [int(0.8 * n), int(0.9 * n) - int(0.8 * n), n - int(0.9 * n)]


def test_leave_one_out_by_hand():
    rows = [(1, item, item) for item in range(1, 7)] + [(2, 8, 1), (2, 9, 2)]
    parts, _ = split(interactions(rows), Protocol(name="leave_one_out", width=3))
    assert as_tuples(parts.train) == [(2, 2, [8, 9]), (3, 1, [1, 2, 3]), (4, 1, [2, 3, 4])]
    assert as_tuples(rows_of(parts.valid)) == [(5, 1, [3, 4, 5])]
    assert as_tuples(rows_of(parts.test)) == [(6, 1, [4, 5, 6])]


def test_global_time_by_user_by_hand():
    # ten users, each of three events; user u ends at time 10 u + 2
    rows = [(u, 1 + k, 10 * u + k) for u in range(10) for k in range(3)]
    rows += [(9, 4, 2), (9, 5, 3), (8, 7, 5), (8, 6, 6)]  # users 8 and 9 also did something early
    parts, notes = split(interactions(rows), Protocol(name="global_time_by_user", width=2))
    assert sorted(set(parts.train.user_W.tolist())) == list(range(8))
    assert as_tuples(rows_of(parts.valid)) == [(80, 8, [6, 1]), (81, 8, [1, 2]), (82, 8, [2, 3])]
    assert as_tuples(rows_of(parts.test)) == [(90, 9, [5, 1]), (91, 9, [1, 2]), (92, 9, [2, 3])]
    assert any("2 windows of exam users" in note for note in notes)


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_row_order_does_not_matter_and_short_users_are_counted(name):
    rng = np.random.default_rng(0)
    rows = [
        (u, int(rng.integers(1, 31)), int(rng.integers(0, 500)))
        for u in range(40)
        for _ in range(9)
    ]
    rows += [(100 + u, 3, 7) for u in range(5)]
    protocol = Protocol(name=name, width=5)
    a, notes = split(interactions(rows), protocol)
    b, _ = split(interactions([rows[i] for i in rng.permutation(len(rows))]), protocol)
    assert as_tuples(a.train) == as_tuples(b.train)
    assert as_tuples(rows_of(a.test)) == as_tuples(rows_of(b.test))
    assert any("5 users with fewer than 2" in note for note in notes)


def test_versions_follow_source_and_switches():
    rows = [(u, 1 + (u + k) % 9, 10 * u + k) for u in range(12) for k in range(6)]
    x = interactions(rows)
    versions = {
        make_dataset("x", x, Protocol(name=name, width=width), source=source).version
        for name in PROTOCOLS
        for width in (3, 4)
        for source in "ab"
    }
    assert len(versions) == len(PROTOCOLS) * 4
    assert make_dataset("x", x, source="a").version == make_dataset("y", x, source="a").version


@pytest.mark.parametrize(
    ("switches", "says"),
    [
        ({"name": "random"}, "no split protocol is called 'random'; known: global_time"),
        ({"min_length": 1}, "got min_length=1"),
        ({"min_length": 12}, "got min_length=12, width=11"),
    ],
)
def test_bad_switches_are_refused(switches, says):
    with pytest.raises(ConfigError, match=says):
        Protocol(**switches)


def test_bad_interactions_are_refused():
    with pytest.raises(DataError, match=r"1\.\.30, the catalogue; got 0\.\.31"):
        interactions([(1, 0, 1), (1, 31, 2)])
    with pytest.raises(DataError, match="equally many"):
        Interactions(CATALOGUE, np.arange(2), np.ones(3, int), np.arange(2))
    with pytest.raises(DataError, match="no interactions"):
        Interactions(CATALOGUE, np.zeros(0, int), np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(DataError, match="leaves a part empty"):
        split(interactions([(1, 1, 1), (1, 2, 2)]))


def rows_at(times):
    n = len(times)
    history = Ragged.of([[1]] * n)
    return Windows(CATALOGUE, np.arange(n), history, np.full(n, 2, np.int32), np.array(times))


@given(times=st.lists(st.integers(0, 20), min_size=8, max_size=100))
def test_carving_takes_the_last_eighth_by_time(times):
    rows = rows_at(times)
    split, note = carve_valid(rows, exam(rows_at([30])))
    train, valid = split.train, split.valid
    assert split.uncut is rows and len(split.test) == 1
    assert len(valid) == len(times) // 8
    assert len(train) + len(valid) == len(times)
    assert train.timestamp_W.max() <= valid.queries.timestamp_Q.min()
    assert sorted([*train.user_W, *valid.queries.user_Q]) == list(range(len(times)))
    assert (np.diff(train.user_W) > 0).all()  # file order
    assert f"last {len(valid)} of {len(times)}" in note
    if times == sorted(times):
        assert valid.queries.user_Q.tolist() == list(range(len(train), len(times)))


def test_carving_needs_eight_rows():
    with pytest.raises(DataError, match="cannot carve 1/8 of 7"):
        carve_valid(rows_at(range(7)), exam(rows_at([9])))


def test_the_catalogue_at_a_time():
    rows = [(u, 1 + u, 10 * u + k) for u in range(10) for k in range(2)]
    parts, _ = split(interactions(rows))
    first = first_seen(parts)
    assert first[0] == NEVER and first[11:].min() == NEVER
    # user u's one window is dated by its target, 10 u + 1
    assert first[1:11].tolist() == [10 * u + 1 for u in range(10)]
    known = known_at(first, np.array([0, 11, 10**6]))
    assert known.sum(axis=1).tolist() == [0, 2, 10]
    own = known_at(first, parts.test.queries.timestamp_Q)
    assert own[np.arange(len(own)), parts.test.target_Q].all()


def test_raw_toy_gives_the_published_windows(published):
    with gzip.open(published("raw/toy") / "inter.csv.gz", "rt") as file:
        user, item, time = (
            np.array(c, np.int64) for c in zip(*list(csv.reader(file))[1:], strict=True)
        )
    x = Interactions(Catalogue(("", *("t" * 11758))), user, item, time)
    assert len(x) == 165247
    parts, _ = split(x)
    assert [len(p) for p in (parts.train, parts.valid, parts.test)] == [38344, 4793, 4794]
    # same-day ties at the borders go by the publisher's user ids, which these are not
    for name, rows, differ in (
        ("train", parts.train, 2),
        ("valid", rows_of(parts.valid), 7),
        ("test", rows_of(parts.test), 5),
    ):
        with (published("toy") / f"{name}.csv").open() as file:
            theirs = Counter((row[1], row[2]) for row in list(csv.reader(file))[1:])
        ours = Counter((str(s), str(t)) for t, _, s in as_tuples(rows))
        assert (ours - theirs).total() == differ
