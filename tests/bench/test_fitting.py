"""A fitted method is whole or absent, wherever a kill falls."""

import json
import shutil
from pathlib import Path

import pytest

from bench.cell import Cell
from bench.execution.fitting import Fitting
from bench.execution.meter import Meter
from bench.results.store import Store

CELL = Cell(dataset="d", data_version="v1", method="popularity")


@pytest.fixture
def fitted(tmp_path):
    """A store and the fit of a cell that it holds."""
    store = Store(tmp_path / "rows", tmp_path / "run")
    fitting = Fitting(store.folder(CELL.key), Meter())
    for folder in (fitting.model, fitting.folder / "scratch"):
        folder.mkdir(parents=True)
    (fitting.model / "method.json").write_text(json.dumps({"method": "popularity"}))
    fitting.bill.write_text(json.dumps({"cost": {"seconds": 1.0}, "facts": {}}))
    fitting.part.write_text("{}")
    return store, fitting


@pytest.mark.parametrize("steps", range(5))
def test_a_kill_while_a_fit_is_forgotten_leaves_nothing_that_passes_for_one(
    fitted, steps, monkeypatch
):
    store, fitting = fitted
    assert store.artefact(CELL) == fitting.model
    left = iter(range(steps))

    def until_killed(do):
        def step(*words, **more):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return do(*words, **more)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", until_killed(Path.unlink))
        patch.setattr("bench.execution.fitting.shutil.rmtree", until_killed(shutil.rmtree))
        try:
            fitting.forget()
        except KeyboardInterrupt:
            assert steps < 5
    assert (fitting.model / "method.json").exists() == (steps == 0)
    assert (store.artefact(CELL) is None) == (steps > 0)


def test_a_model_that_lost_its_bill_is_no_artefact_and_is_fitted_anew(fitted):
    store, fitting = fitted
    fitting.bill.unlink()
    assert store.artefact(CELL) is None
    assert fitting.restored("cpu") is None
