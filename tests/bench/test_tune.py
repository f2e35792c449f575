"""A search on validation: what it costs, what it starts from, and what it must not see."""

import pytest

from bench.api import Order, default_store, execute, prepare
from bench.cell import SELECT_BY, Run
from bench.data.load import load_dataset
from bench.execution.tune import DEFAULTS, _Search
from bench.experiment.choice import Choice
from bench.registry import methods
from bench.results.figures import figures_beside

SUITE = """
title: a search
datasets: [ml_100k]
train_rows: 600
valid_rows: 60
test_rows: 40
rows:
  - {method: item_knn, tune: 3}
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    (folder / "mine.yaml").write_text(SUITE)
    store = default_store(folder / "out", folder / "run")
    order = Order(suite=str(folder / "mine.yaml"), choice=Choice(scale="embedded"))
    plan = prepare(order, store)
    return plan, {row.cell.method + "!" * row.cell.tune: row for row in execute(plan)}


def valid_score(plan, row):
    return figures_beside(plan.store.row_path(row.cell)).mean(SELECT_BY, "valid")


def test_the_defaults_are_a_cell_of_their_own_and_the_first_trial(searched):
    plan, rows = searched
    order = [job.cell.method for job in plan.plan.jobs]
    assert order == ["item_knn", "tune", "item_knn"]
    assert plan.plan.jobs[1].cell.label == "ml_100k/tune(item_knn)#0"
    defaults, tuned, search = rows["item_knn"], rows["item_knn!!!"], rows["tune"]
    trials = search.facts["trials"]
    assert len(trials) == 3
    assert trials[0]["score"] == valid_score(plan, defaults)
    assert {k: defaults.cell.config[k] for k in trials[0]["config"]} == trials[0]["config"]
    assert len({str(trial["config"]) for trial in trials}) == 3, "no configuration twice"
    best = max(trials, key=lambda trial: trial["score"])
    assert tuned.facts["tuned"] == best["config"]
    assert valid_score(plan, tuned) == best["score"] >= valid_score(plan, defaults)


@pytest.mark.parametrize("shared", [True, False])
def test_a_fit_that_saw_the_test_rows_is_no_trial(searched, tmp_path, monkeypatch, shared):
    (search,) = [job.cell for job in searched[0].plan.jobs if job.cell.method == "tune"]
    split = load_dataset("ml_100k", None).split
    train, valid = split.train.sample(300), split.valid.sample(30)
    kind = methods.get("item_knn")
    fitted, loaded = kind(kind.Config()), []
    fitted.fit(train, valid, Run(seed=0, device="cpu", folder=tmp_path))
    monkeypatch.setattr(Run, "load", lambda run, name: loaded.append(name) or fitted)
    run = Run(seed=0, device="cpu", folder=tmp_path)
    tune = methods.get("tune")
    config = tune.Config(**{**search.config, "defaults_cell": shared})
    assert (DEFAULTS in tune.needs(config, loss=None, backbone=None)) == shared
    method = tune(config)
    method.fit(train, valid, run)
    assert loaded == [DEFAULTS] * shared
    assert len(run.facts["trials"]) == 3


def test_a_small_grid_is_tried_whole_and_no_point_twice():
    search = _Search({"a": [1, 2], "b": ["x", "y", "z"]}, {"a": 2, "b": "y"}, seed=0)
    asked = []
    for number in range(6):
        asked.append(search.ask())
        search.tell(float(number == 0))  # what TPE likes best is what it has already tried
    assert asked[0] == {"a": 2, "b": "y"}
    assert len({tuple(point.items()) for point in asked}) == 6
