"""One test over each registry: every method with the losses and decoders it takes, every loss and decoder."""

import numpy as np
import pytest

from bench.cli import main
from bench.conformance import examine, examine_component, toy_data
from bench.errors import Unavailable
from bench.method import Method
from bench.registry import decoders, losses, methods
from bench.types import Ranking
from tests.pinned.variants import examined

HOUSE = [n for n in methods.index if methods.index[n].path is not None]
CASES = [(n, *pair) for n in HOUSE if methods.get(n).family != "stage" for pair in examined(n)]


@pytest.mark.parametrize(("name", "loss", "decoder"), CASES)
def test_method_keeps_the_contract(name, loss, decoder):
    try:
        findings = list(examine(name, loss, decoder))
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert [f"{f.question}: {f.seen}" for f in findings if not f.ok] == []


COMPONENTS = [(r, n) for r in (losses, decoders) for n in r if r.index[n].path is not None]


@pytest.mark.parametrize(("registry", "name"), COMPONENTS, ids=[name for _, name in COMPONENTS])
def test_loss_or_decoder_keeps_the_contract(registry, name):
    findings = list(examine_component(registry.get(name)))
    assert [f"{f.question}: {f.seen}" for f in findings if not f.ok] == []
    assert len(findings) >= 7


class _Sound(Method):
    """Always the same items; sound until a subclass breaks one thing."""

    family = "floor"

    def fit(self, train, valid, run):
        self.start = 1

    def recommend(self, queries, k):
        return Ranking(np.tile(np.arange(self.start, self.start + k), (len(queries), 1)))

    def save(self, folder):
        (folder / "start.txt").write_text(str(self.start))

    def load(self, folder, *, device):
        self.start = int((folder / "start.txt").read_text())


class _Repeats(_Sound):
    def recommend(self, queries, k):
        return Ranking(np.ones((len(queries), k), np.int64))


class _Short(_Sound):
    family = "traditional"

    def recommend(self, queries, k):
        lists = super().recommend(queries, k).item_QK
        lists[3, 2:] = 0
        return Ranking(lists)


class _KnowsTheOrder(_Sound):
    def recommend(self, queries, k):
        lists = super().recommend(queries, k).item_QK
        return Ranking(lists + np.arange(len(queries))[:, None])


class _KnowsHowMany(_Sound):
    def recommend(self, queries, k):
        return Ranking(super().recommend(queries, k).item_QK + (len(queries) == 24))


class _KnowsTheLength(_Sound):
    def recommend(self, queries, k):
        return Ranking(super().recommend(queries, k).item_QK + (k == 8))


class _Unversioned(_Sound):
    version = "1.0"


class _Unseeded(_Sound):
    made = 0

    def fit(self, train, valid, run):
        type(self).made += 1
        self.start = self.made


class _Forgets(_Sound):
    def load(self, folder, *, device):
        self.start = 9


class _Writes(_Sound):
    def fit(self, train, valid, run):
        super().fit(train, valid, run)
        train.timestamp_W[:] = 0
        valid.queries.history.values[0] += 1


FAULTS = {
    _Repeats: "an item twice",
    _Short: "fewer than 5 items in 1 of 24 lists, first query 3",
    _KnowsTheOrder: "does not depend on the order",
    _KnowsHowMany: "gives a query the same list whatever else is asked",
    _KnowsTheLength: "begins a list of 8 with that of 5",
    _Unversioned: "its version is '1.0'",
    _Unseeded: "same lists under the same seed",
    _Forgets: "same after save and load",
    _Writes: "it wrote to train.timestamp_W, valid.queries.history.values",
}


@pytest.mark.parametrize("broken", [_Sound, *FAULTS], ids=lambda kind: kind.__name__)
def test_each_fault_is_caught_by_its_own_question(broken, monkeypatch):
    monkeypatch.setitem(methods._loaded, "broken", broken)
    monkeypatch.setattr(broken, "name", "broken")
    faults = [f"{f.question}: {f.seen}" for f in examine("broken") if not f.ok]
    if broken is _Sound:
        assert faults == []
    else:
        assert any(FAULTS[broken] in fault for fault in faults), faults


def test_the_verb_takes_losses_and_decoders_and_knows_what_it_does_not(capsys):
    assert main(["test", "ce", "bce_last"]) == 0
    said = capsys.readouterr().out
    assert "ok   loss ce (8 questions" in said and "16 passed, 0 failed" in said
    assert main(["test", "bce_lost"]) == 2
    assert "no method, loss or decoder is called 'bce_lost'. Did you" in capsys.readouterr().err


def test_toy_data_is_the_same_every_time():
    one, two = toy_data(), toy_data()
    assert np.array_equal(one.train.sequences.values, two.train.sequences.values)
    assert one.train.seen.sum() == one.train.n_items - 1, "one item is never trained"
