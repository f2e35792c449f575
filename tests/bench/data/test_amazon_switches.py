"""Switches of a rebuild as the command line takes them."""

import pytest

from bench.cli._exchange import _switches
from bench.data.amazon.rebuild import RebuildSwitches
from bench.errors import ConfigError


def test_switches_are_read_as_numbers_truths_and_words():
    words = ["core=3", "title_required=false", "titles=clean", "since=-5"]
    made = _switches(words, RebuildSwitches())
    assert (made.core, made.title_required, made.titles, made.since) == (3, False, "clean", -5)
    assert _switches([], made) == made


@pytest.mark.parametrize(
    ("text", "truth"),
    [("yes", True), ("true", True), ("No", False), ("FALSE", False)],
)
def test_truths_are_yes_and_no_too(text, truth):
    made = _switches([f"title_required={text}"], RebuildSwitches(title_required=not truth))
    assert made.title_required is truth


@pytest.mark.parametrize(
    ("word", "say"),
    [
        ("coro=5", "not known"),
        ("core", "not known"),
        ("titles=odd", "keep, clean"),
        ("window=5", "use --width"),
        ("min_length=3", "use --min-length"),
        ("protocol=leave_one_out", "use --protocol"),
        ("core=two", "core must be a whole number; got 'two'"),
        ("core=yes", "core must be a whole number; got True"),
        ("core=--5", "core must be a whole number; got '--5'"),
        ("core=\u00b2", "core must be a whole number"),
        ("title_required=maybe", "title_required must be true or false; got 'maybe'"),
        ("title_required=1", "title_required must be true or false; got 1"),
        ("since=2012-01-01", "since must be a whole number, unix seconds; got '2012-01-01'"),
        ("seed=x", "seed must be a whole number; got 'x'"),
        ("seed=-1", "seed must be at least 0, got -1"),
        ("seed=4294967296", "seed must be below"),
        ("sample_items=all", "sample_items must be a whole number; got 'all'"),
    ],
)
def test_a_wrong_switch_says_what_is_allowed(word, say):
    with pytest.raises(ConfigError, match=say):
        _switches([word], RebuildSwitches())


def test_the_split_of_a_rebuild_is_checked_too():
    for wrong in ({"window": "5"}, {"min_length": None}, {"protocol": 5}):
        (name,) = wrong
        with pytest.raises(ConfigError, match=f"{name} must be a w"):
            RebuildSwitches(**wrong)
