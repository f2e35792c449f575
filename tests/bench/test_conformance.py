"""One test over the whole registry: every method, with every loss and decoder it takes."""

import numpy as np
import pytest

from bench.conformance import examine, toy_data, variants
from bench.errors import Unavailable
from bench.method import Method
from bench.registry import methods
from bench.types import Ranking

HOUSE = [n for n in methods.index if methods.index[n].path is not None]
CASES = [(n, *pair) for n in HOUSE if methods.get(n).family != "stage" for pair in variants(n)]


@pytest.mark.parametrize(("name", "loss", "decoder"), CASES)
def test_method_keeps_the_contract(name, loss, decoder):
    try:
        findings = list(examine(name, loss, decoder))
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert [f"{f.question}: {f.seen}" for f in findings if not f.ok] == []


class _Broken(Method):
    """Repeats an item, depends on the order of queries and forgets everything when saved."""

    family = "floor"

    def fit(self, train, valid, run):
        self.fitted = True

    def recommend(self, queries, k):
        lists = np.tile(np.arange(1, k + 1), (len(queries), 1))
        lists[0] = 1
        return Ranking(lists)


def test_a_broken_method_is_caught(monkeypatch):
    monkeypatch.setitem(methods._loaded, "broken", _Broken)
    monkeypatch.setattr(_Broken, "name", "broken")
    faults = [f for f in examine("broken") if not f.ok]
    assert any("an item twice" in fault.seen for fault in faults)


def test_toy_data_is_the_same_every_time():
    one, two = toy_data(), toy_data()
    assert np.array_equal(one.train.sequences.values, two.train.sequences.values)
    assert one.train.seen.sum() == one.train.n_items - 1, "one item is never trained"
