"""What a cell is expected to take: measured on cells of the same kind, else guessed by its method."""

from dataclasses import replace

import pytest

from bench.api import Order, default_store, prepare
from bench.cell import Row
from bench.experiment.choice import Choice

SUITE = """
title: t
datasets: [ml_100k]
train_rows: 200
test_rows: 20
rows:
  - {method: item_knn, tune: 2}
  - {method: markov_then_new}
"""


@pytest.fixture
def plan(tmp_path):
    """The plan of a small suite, and where its rows go."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    store = default_store(tmp_path / "out", tmp_path / "run")

    def make(suite=SUITE, **more):
        (tmp_path / "suite.yaml").write_text(suite)
        order = Order(suite=str(tmp_path / "suite.yaml"), choice=Choice(scale="embedded"), **more)
        return {job.cell.label: job for job in prepare(order, store).plan.jobs}

    return make, store


def _write(store, cell, seconds, device="cpu"):
    cost = {"fit": {"seconds": seconds}}
    row = Row(cell=cell, status="done", cost=cost, provenance={"device": device})
    store.write(row, stage=cell.method == "tune")


def test_a_search_is_timed_by_searches_for_the_same(plan):
    make, store = plan
    jobs = make(SUITE.replace("item_knn", "sasrec"))
    (search,) = [job for job in jobs.values() if job.cell.method == "tune"]
    _write(store, search.cell, 5.0)
    again = make(SUITE.replace("item_knn", "sasrec"))[search.cell.label]
    assert (again.seconds, again.measured) == (6.0, True)
    assert again.guess == search.guess, "a limit must not rest on a measurement alone"
    longer = {
        "method": "bert4rec",
        "loss": "msl",
        "decoder": "beam",
        "backbone": "scratch",
        "trials": 40,
        "values": {"epochs": 99},
    }
    for name, value in longer.items():
        other = replace(search.cell, config={**search.cell.config, name: value})
        store.row_path(search.cell, stage=True).unlink(missing_ok=True)
        _write(store, other, 5.0)
        assert not make(SUITE.replace("item_knn", "sasrec"))[search.cell.label].measured, name
        store.row_path(other, stage=True).unlink()


def test_a_duration_on_another_kind_of_device_does_not_count(plan):
    make, store = plan
    label = "ml_100k/markov_then_new#0"
    _write(store, make()[label].cell, 500.0, device="cuda")
    assert not make()[label].measured
    assert make(device="cuda")[label].seconds == 501.0


def test_what_lies_among_the_rows_stops_no_plan(plan):
    make, store = plan
    label = "ml_100k/markov_then_new#0"
    _write(store, make()[label].cell, 5.0)
    folder = store.rows / "ml_100k" / "embedded"
    (folder / "list.json").write_text("[1, 2]")
    (folder / ".half-x.json").write_text("{")
    (folder / "gone.json").symlink_to(folder / "nowhere")
    assert make()[label].seconds == 6.0
