"""Switches of a rebuild as the command line takes them."""

import pytest

from bench.cli._exchange import _switches
from bench.data.amazon import RebuildSwitches
from bench.errors import ConfigError


def test_switches_are_read_as_numbers_truths_and_words():
    words = ["core=3", "title_required=false", "titles=clean", "since=-5"]
    made = _switches(words, RebuildSwitches())
    assert (made.core, made.title_required, made.titles, made.since) == (3, False, "clean", -5)
    assert _switches([], made) == made


@pytest.mark.parametrize(
    ("word", "say"), [("coro=5", "not known"), ("core", "not known"), ("titles=odd", "keep, clean")]
)
def test_a_wrong_switch_says_what_is_allowed(word, say):
    with pytest.raises(ConfigError, match=say):
        _switches([word], RebuildSwitches())
