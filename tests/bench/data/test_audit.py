"""The audit: by hand on a table small enough to check, and against known figures of real data."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from bench.data.audit import audit
from bench.data.audit_view import svg, table
from bench.data.exams import exam
from bench.registry import datasets
from bench.types import Catalogue, Dataset, Ragged, Split, Windows

TITLES = ("", "one &amp; only", "two", "two", "four", "five", 'a < b & "c" > d', "seven", "")
DAY = 86400


def windows(catalogue, *rows):
    users, items, days = zip(*rows, strict=True)
    return Windows(
        catalogue,
        np.array(users),
        Ragged.of([i[:-1] for i in items]),
        np.array([i[-1] for i in items], np.int32),
        np.array(days) * DAY,
    )


@pytest.fixture
def small():
    c = Catalogue(TITLES, "toy")
    train = windows(c, (1, [1, 2, 4], 1), (1, [2, 4, 1], 2), (2, [2, 4], 3), (2, [2, 4], 3))
    valid = windows(c, (3, [1, 5], 5))
    test = windows(c, (1, [4, 1, 3], 13), (2, [2, 4, 2], 13), (4, [5, 6], 14), (4, [6, 4], 15))
    return Dataset("<small>", "v1", c, Split(train, exam(valid), exam(test)), ("a note",))


def test_every_figure_by_hand(small):
    facts = audit(small).facts
    assert facts["rows"] == {"train": 4, "valid": 1, "test": 4}
    size = facts["size"]
    assert (size["users"], size["items"]) == (4, 8)
    # user 1: 3 windows, first of 3 items; user 2: 3, first of 2; user 3: 1 of 2; user 4: 2 of 2
    assert size["interactions (rebuilt from windows)"] == 5 + 4 + 2 + 3
    assert size["density"] == 14 / 32
    cold = facts["cold test targets"]  # targets 3, 2, 6, 4; train knows 1, 2, 4; valid adds 5
    assert cold["never in train"] == 0.5
    assert cold["items never in train"] == 5
    assert cold["distinct cold targets"] == 2
    assert cold["items never in train or validation"] == 4
    assert cold["ceiling of ID models (hit rate)"] == 0.5
    assert cold["ceiling of ID models, titles as identity"] == 0.75  # 3 is called what 2 is
    assert cold["test rows with nothing cold"] == 0.25
    overlap = facts["repeats and overlap"]
    assert overlap["test targets already in their history"] == 0.25
    assert overlap["test windows with a repeated item"] == 0.25
    assert overlap["test rows whose user has training rows"] == 0.5
    assert overlap["users in train and test"] == 2
    assert overlap["users in train and validation"] == 0
    assert overlap["test windows that begin inside a training window"] == 0.5
    assert overlap["duplicate rows in train"] == 1
    assert overlap["test rows that are also training rows"] == 0
    assert facts["history"]["train: windows of full length 3"] == 0.5
    assert facts["time"]["days from train's end to test's begin"] == 10
    assert facts["time"]["train begins"] == "1970-01-02"
    assert facts["titles"]["items that share a title"] == 2
    assert facts["titles"]["test targets with a shared title"] == 0.5
    assert facts["titles"]["titles with HTML entities"] == 1
    assert facts["titles"]["empty titles"] == 1
    assert audit(small).history_lengths["test"] == (0, 2, 2)


def test_gini_and_curve_of_even_and_uneven_counts():
    c = Catalogue(("", *"abcde"))
    one = windows(c, (9, [1, 2], 99))
    for targets, gini in (([1, 2, 3, 4, 5], 0.0), ([1, 1, 1, 1, 1], 0.8)):
        train = windows(c, *((u, [1, t], u) for u, t in enumerate(targets)))
        got = audit(Dataset("x", "v", c, Split(train, exam(one), exam(one))))
        assert got.facts["popularity"]["Gini"] == pytest.approx(gini)
        assert got.popularity_curve[-1] == 1
        assert got.popularity_curve[20] == pytest.approx(0.2 if gini == 0 else 1.0)


def test_a_leak_is_seen():
    c = Catalogue(("", *"abc"))
    row = (1, [1, 2, 3], 5)
    split = Split(
        windows(c, row), exam(windows(c, (2, [1, 2], 6))), exam(windows(c, row, (1, [2, 3], 1)))
    )
    facts = audit(Dataset("x", "v", c, split)).facts
    assert facts["repeats and overlap"]["test rows that are also training rows"] == 1
    assert facts["time"]["test targets before train's end"] == 0.5


def test_the_table_is_aligned_and_the_json_is_json(small):
    found = audit(small)
    lines = table(found).splitlines()
    assert lines[0] == "<small>  (version v1)"
    assert len({len(line) for line in lines if line.startswith("  ") and "note" not in line}) == 1
    assert "  - a note" in lines
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["facts"]["rows"]["train"] == 4


def test_the_figure_is_well_formed_and_escaped(small):
    drawn = svg(audit(small))
    root = ElementTree.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "<small>" not in drawn and "&lt;small&gt;" in drawn
    assert "script" not in drawn and "href" not in drawn
    wide, high = float(root.get("width")), float(root.get("height"))
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        for start, length, limit in (("x", "width", wide), ("y", "height", high)):
            assert 0 <= float(bar.get(start, 0)) + float(bar.get(length)) <= limit + 0.1
            assert float(bar.get(length)) >= 0


KNOWN = {  # cold share and items, in train (toy, office) or in all that was published (book)
    "toy": ("never in train", 0.2635, "items never in train", 181),
    "office": ("never in train", 0.4655, "items never in train", 63),
    "book": ("never in train or validation", 0.6416, "items never in train or validation", 257),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_figures_of_the_papers_data(published, name):
    dataset = datasets.get(name)(published(name).parent)
    found = audit(dataset)
    share, value, items, n = KNOWN[name]
    cold = found.facts["cold test targets"]
    assert round(cold[share], 4) == value
    assert cold[items] == n
    assert f"{value:.4f}" in table(found)
    if name == "book":  # without its validation file it cannot give Table 4's counts
        return
    size = found.facts["size"]
    table4 = {"toy": (19124, 11758, 165247), "office": (4895, 2414, 53149)}[name]
    assert (size["users"], size["items"], size["interactions (rebuilt from windows)"]) == table4
