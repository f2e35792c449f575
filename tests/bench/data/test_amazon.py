"""The rebuild: exact against published windows, and small enough by hand to check by eye."""

import gzip
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.amazon.events import Events, k_core, repeated
from bench.data.amazon.rebuild import (
    TABLE_4,
    RawSource,
    RebuildSwitches,
    Statistics,
    build,
    rebuild,
)
from bench.data.exams import rows_of
from bench.data.formats.delimited import write_published
from bench.data.formats.titles import read_titles
from bench.data.formats.windows import read_windows
from bench.errors import ConfigError, DataError

PARTS = ("train", "valid", "test")


def parts_of(split):
    return [split.train, rows_of(split.valid), rows_of(split.test)]


def published_parts(folder):
    titles = read_titles(folder / "id2name4Rec.json")
    return titles.catalogue, [read_windows(folder / f"{part}.csv", titles)[0] for part in PARTS]


def rows(windows):
    """Windows as (time, items), without user ids, which differ from the publisher's."""
    items = (tuple(row.tolist()) for row in windows.sequences)
    return Counter(zip(windows.timestamp_W.tolist(), items, strict=True))


def office(folder):
    return RawSource(
        name="office",
        reviews=folder / "reviews.csv.gz",
        metadata=folder / "items.csv.gz",
        domain="office",
    )


def test_office_is_rebuilt_row_by_row(published):
    rebuilt = build(office(published("raw/office")))
    assert rebuilt.statistics == TABLE_4["office"]
    assert rebuilt.differences == ()
    assert "72 reviews of 6 items without a title were dropped" in rebuilt.dataset.notes
    catalogue, theirs = published_parts(published("office"))
    ours = parts_of(rebuilt.dataset.split)
    assert catalogue.titles == rebuilt.dataset.catalogue.titles
    assert [len(part) for part in ours] == [15400, 1925, 1925]
    assert [rows(part) for part in ours] == [rows(part) for part in theirs]
    assert rebuilt.items[1].as_py() == "B00000JBLH"


def test_toy_is_rebuilt_but_for_fourteen_border_rows(published):
    folder = published("raw/toy")
    source = RawSource(
        name="toy",
        reviews=folder / "inter.csv.gz",
        metadata=folder / "items.csv.gz",
        review_columns={"user_id": "user", "item_id": "item", "timestamp": "time"},
        title_columns={"item_id": "item", "title": "title"},
        domain="toy",
    )
    rebuilt = build(source, RebuildSwitches(item_order="sorted", user_order="sorted"))
    assert rebuilt.differences == ()
    _, theirs = published_parts(published("toy"))
    ours = parts_of(rebuilt.dataset.split)
    missing = [sum((rows(b) - rows(a)).values()) for a, b in zip(ours, theirs, strict=True)]
    assert missing == [2, 7, 5]
    assert sum(map(rows, ours), Counter()) == sum(map(rows, theirs), Counter())


def test_a_rebuilt_dataset_reads_as_a_published_one(published, tmp_path):
    ours = rebuild(office(published("raw/office")))
    written = write_published(ours, tmp_path / "office")
    assert {path.name for path in written} == {
        *(f"{part}.csv" for part in PARTS),
        "train_10000.csv",
        "id2name4Rec.json",
        "ids.json",
    }
    catalogue, theirs = published_parts(tmp_path / "office")
    assert catalogue.titles == ours.catalogue.titles
    assert [rows(x) for x in parts_of(ours.split)] == [rows(x) for x in theirs]
    titles = read_titles(tmp_path / "office" / "id2name4Rec.json")
    sample = read_windows(tmp_path / "office" / "train_10000.csv", titles)[0]
    drawn = np.random.RandomState(42).choice(15400, 10000, replace=False)
    wanted = [ours.split.train.sequences[row].tolist() for row in drawn]
    assert [row.tolist() for row in sample.sequences] == wanted
    with pytest.raises(DataError, match="already there"):
        write_published(ours, tmp_path / "office")


# A raw dump in miniature: three users buy 16, 16 and 3 things; item z has no title.
EVENTS = [(u, f"i{i:02d}", 86400 * (100 * i + n)) for n, u in enumerate("ab") for i in range(16)]
EVENTS += [("c", f"i{i:02d}", 86400 * (100 * i + 2)) for i in range(3)] + [("a", "z", 86400)]
TITLES = {f"i{i:02d}": f"it's no. {i}" for i in range(16)}


def dump(folder, release):
    """The same events as each release publishes them."""
    user, item, time, unit = {
        "2014": ("reviewerID", "asin", "unixReviewTime", 1),
        "2018": ("reviewerID", "asin", "unixReviewTime", 1),
        "2023": ("user_id", "parent_asin", "timestamp", 1000),
    }[release]
    reviews = [{"overall": 5.0, user: u, item: i, time: t * unit} for u, i, t in EVENTS]
    meta = [
        {item: i, "price": 1.5, "title": t, "related": {"asin": "x"}} for i, t in TITLES.items()
    ]
    meta.append({item: "z", "description": "no title"})
    say = repr if release == "2014" else json.dumps
    names = {
        "2014": ("reviews_Some_Things_5.json.gz", "meta_Some_Things.json.gz"),
        "2018": ("Some_Things.json.gz", "meta_Some_Things.json.gz"),
        "2023": ("Some_Things.jsonl", "meta_Some_Things.jsonl.gz"),
    }[release]
    for name, records, form in ((names[0], reviews, json.dumps), (names[1], meta, say)):
        data = "".join(form(record) + "\n" for record in records).encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return RawSource.find(folder, "Some_Things", release)


SMALL = RebuildSwitches(core=2)


@pytest.mark.parametrize("release", ["2014", "2018", "2023"])
def test_each_release_gives_the_same_windows(tmp_path, release):
    rebuilt = build(dump(tmp_path, release), SMALL)
    assert rebuilt.dataset.name == f"some_things-{release}"
    assert rebuilt.statistics == Statistics(3, 16, 35)
    assert rebuilt.differences is None
    assert rebuilt.dataset.catalogue.titles[:2] == ("", "it's no. 0")
    assert rebuilt.users.to_pylist() == ["", "a", "b", "c"]
    train, valid, test = parts_of(rebuilt.dataset.split)
    assert (len(train), len(valid), len(test)) == (10, 1, 2)
    steps = [(86400 * (1000 + 100 * k + n), k) for k in range(6) for n in (0, 1)]
    slid = [(time, tuple(range(k + 1, k + 12))) for time, k in steps]
    inorder = [*zip(train.timestamp_W.tolist(), map(tuple, train.sequences), strict=True)]
    assert inorder == [(86400 * 202, (1, 2, 3)), *slid[:9]]
    assert rows(valid) == Counter(slid[9:10])
    assert rows(test) == Counter(slid[10:])
    assert train.user_W.tolist() == [3, 1, 2, 1, 2, 1, 2, 1, 2, 1]


@pytest.mark.parametrize(("release", "order"), [("2014", "ui"), ("2018", "iu"), ("2023", "header")])
def test_ratings_only_files(tmp_path, release, order):
    dump(tmp_path, release)
    forms = {
        "ui": ("ratings_Some_Things.csv", "", "{u},{i},5.0,{t}\n"),
        "iu": ("Some_Things.csv", "", "{i},{u},5.0,{t}\n"),
        "header": (
            "Some_Things.csv",
            "user_id,parent_asin,rating,timestamp\n",
            "{u},{i},5.0,{t}000\n",
        ),
    }
    name, head, form = forms[order]
    text = head + "".join(form.format(u=u, i=i, t=t) for u, i, t in EVENTS)
    (tmp_path / name).write_text(text)
    source = RawSource.find(tmp_path, "Some_Things", release, reviews=name)
    full = build(dump(tmp_path, release), SMALL)
    ratings = build(source, SMALL)
    ours, theirs = (parts_of(x.dataset.split) for x in (full, ratings))
    assert [rows(x) for x in ours] == [rows(x) for x in theirs]
    assert full.statistics == ratings.statistics


def test_what_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no release is called '2020'"):
        RawSource.find(tmp_path, "Books", "2020")
    with pytest.raises(DataError, match=r"none of reviews_Books_5.json.gz, .* is there"):
        RawSource.find(tmp_path, "Books", "2014")


def test_milliseconds_are_not_taken_for_seconds(tmp_path):
    source = replace(dump(tmp_path, "2023"), unit="s")
    with pytest.raises(DataError, match="these are milliseconds"):
        build(source, SMALL)


@pytest.mark.parametrize(
    ("changes", "statistics"),
    [
        ({"core": 0}, Statistics(3, 16, 35)),
        ({"core": 3, "window": 2}, Statistics(3, 3, 9)),
        ({"title_required": False, "core": 0}, Statistics(3, 17, 36)),
        ({"until": 86400 * 1500}, Statistics(3, 15, 33)),
        ({"since": 86400 * 100}, Statistics(3, 15, 32)),
        ({"sample_items": 4, "core": 0, "window": 2}, None),
    ],
)
def test_switches(tmp_path, changes, statistics):
    switches = replace(SMALL, **changes)
    rebuilt = build(dump(tmp_path, "2014"), switches)
    assert statistics is None or rebuilt.statistics == statistics
    if switches.sample_items:
        assert rebuilt.statistics.items == 4
        again = build(dump(tmp_path, "2014"), switches)
        other = build(dump(tmp_path, "2014"), replace(switches, seed=1))
        assert again.items.to_pylist() == rebuilt.items.to_pylist() != other.items.to_pylist()


def test_the_version_follows_bytes_and_switches(tmp_path):
    source = dump(tmp_path, "2014")
    first = build(source, SMALL).dataset.version
    assert build(source, SMALL).dataset.version == first
    assert build(source, replace(SMALL, window=5)).dataset.version != first
    assert build(source, replace(SMALL, seed=1)).dataset.version != first
    (tmp_path / "meta_Some_Things.json.gz").write_bytes(
        gzip.compress(b"{'asin': 'i00', 'title': 'x'}")
    )
    with pytest.raises(DataError):
        build(source, SMALL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"core": -1},
        {"window": 1},
        {"titles": "tidy"},
        {"repeats": "none"},
        {"sample_items": 0},
        {"since": 5, "until": 5},
        {"protocol": "random"},
        {"item_order": "random"},
    ],
)
def test_switches_out_of_range(wrong):
    with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
        RebuildSwitches(**wrong)


def test_differences_from_the_paper_are_said():
    said = Statistics(4894, 2414, 53150).differences(TABLE_4["office"])
    assert said == (
        "users: 4,894, Table 4 has 4,895 (-1)",
        "interactions: 53,150, Table 4 has 53,149 (+1)",
    )
    assert round(TABLE_4["office"].density_percent, 4) == 0.4498


PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), max_size=60)


def events_of(triples):
    columns = np.array(triples, np.int64).reshape(-1, 3).T
    return Events(columns[0].astype(np.int32), columns[1].astype(np.int32), columns[2], None, None)


@settings(deadline=None)
@given(PAIRS, st.integers(1, 4))
def test_k_core_is_the_largest_set_that_holds(triples, core):
    kept = k_core(events_of(triples), core)
    dull = list(triples)
    while True:
        users, items = Counter(t[0] for t in dull), Counter(t[1] for t in dull)
        smaller = [t for t in dull if users[t[0]] >= core and items[t[1]] >= core]
        if smaller == dull:
            break
        dull = smaller
    assert list(zip(kept.user_E, kept.item_E, kept.time_E, strict=True)) == dull


@settings(deadline=None)
@given(PAIRS)
def test_repeats_by_policy(triples):
    events = events_of(triples)
    assert not repeated(events, "keep").any()
    for policy, key in (
        ("exact", lambda t: t),
        ("first", lambda t: t[:2]),
        ("last", lambda t: t[:2]),
    ):
        best = {}
        for place, triple in enumerate(triples):
            held = best.get(key(triple))
            later = held is not None and (
                triple[2] >= triples[held][2] if policy == "last" else triple[2] < triples[held][2]
            )
            if held is None or later:
                best[key(triple)] = place
        kept = np.flatnonzero(~repeated(events, policy)).tolist()
        assert kept == sorted(best.values()), policy
