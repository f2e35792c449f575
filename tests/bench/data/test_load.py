"""A dataset as a profile sees it: what is held out, and what a run makes of it."""

import json

import numpy as np
import pytest
from test_published import write_dataset

from bench.cli import main
from bench.data.exams import rows_of
from bench.data.load import load_dataset

SUITE = """
title: Floors
datasets: [book]
seeds: [0]
rows:
  - {method: popularity}
  - {method: sasrec, losses: [ce]}
"""


@pytest.fixture
def root(tmp_path):
    """A folder with a book that has no validation file and a toy that has one."""
    write_dataset(tmp_path / "book", ("train", "test"))
    write_dataset(tmp_path / "toy")
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


def test_the_released_protocol_trains_on_what_validation_was_cut_from(root):
    ours, theirs = (load_dataset("book", root, uncut=u) for u in (False, True))
    assert ours.split.held_out and not theirs.split.held_out
    assert (len(ours.split.train), len(theirs.split.train)) == (14, 16)
    assert theirs.split.train.user_W.tolist() == list(range(16))  # file order, so samples agree
    held = rows_of(ours.split.valid).user_W
    assert np.isin(held, theirs.split.train.user_W).all()
    assert not np.isin(held, ours.split.train.user_W).any()
    assert theirs.split.test is ours.split.test
    assert theirs.version != ours.version


def test_a_published_validation_file_is_the_same_to_both_profiles(root):
    ours, theirs = (load_dataset("toy", root, uncut=u) for u in (False, True))
    assert theirs is ours and ours.split.held_out


def test_ten_thousand_rows_of_the_released_book_are_the_published_sample(published):
    root = published("book").parent
    sample = load_dataset("book", root, uncut=True).split.train.sample(10_000)
    listed = (root / "book" / "train_10000.csv").read_text().splitlines()[1:]
    users = [int(line.partition(",")[0]) for line in listed]
    assert sample.user_W.tolist() == users


def rows_after(root, *words):
    where = ["--data-root", str(root), "--out", str(root / "out"), "--store", str(root / "run")]
    suite = ["--suite", str(root / "suite.yaml"), "--scale", "small", "--profile", "paper_faithful"]
    main(["run", *suite, *where, *words])
    found = [json.loads(p.read_text()) for p in (root / "out/rows").rglob("*.json")]
    return {(row["cell"]["method"], row["cell"]["tune"]): row for row in found}


def test_where_nothing_is_held_out_no_validation_figure_is_shown(root):
    row = rows_after(root, "--methods", "popularity")["popularity", 0]
    assert row["status"] == "done" and row["n"] == 16
    assert row["valid"] == {} and "validate" not in row["cost"]
    assert row["facts"]["selected_on"] == "test"
    note = (root / "out/tables/small-paper_faithful-protocol1/book/quality.md").read_text()
    assert "the last eighth of train.csv stays in train" in note


def test_where_nothing_is_held_out_nothing_is_tuned(root):
    rows = rows_after(root, "--methods", "sasrec", "--tune", "2")
    reasons = [row["reason"] for row in rows.values()]
    assert reasons and all("nothing of book is held out to tune on" in r for r in reasons)
    assert {row["status"] for row in rows.values()} == {"left out"}
