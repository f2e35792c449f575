"""The smoke suite, run whole: its rows have the pinned values, and a second run has nothing to do."""

import pytest

from bench.api import Order, default_store, execute, prepare
from bench.experiment.choice import Choice
from bench.results.figures import figures_beside

# NDCG@10 and Hit@10 on the first 150 test rows of MovieLens-100K, 2,000 training rows. Floors are exact.
FLOORS = {
    "popularity": (0.009180474589537196, 4 / 150),
    "markov": (0.05283276054249882, 14 / 150),
    "markov_then_new": (0.03808271025189575, 0.047803790412486065),
    "random_new": (0.000810445366883094, 0.0017837235228539575),
}
SASREC_HITS, SASREC_VALID = 1, 0.01931  # test hits of 150, validation NDCG@5 after 3 epochs
ROWS_OF_SLACK = 2  # float sums differ from one CPU to the next, and with them a rank or two


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    store = default_store(folder / "out", folder / "run")
    order = Order(suite="smoke", choice=Choice(scale="embedded"))
    rows = execute(prepare(order, store))
    return order, store, {row.cell.method: row for row in rows}


def figures(smoke, name):
    _, store, rows = smoke
    return figures_beside(store.row_path(rows[name].cell))


def test_every_cell_is_done_on_the_same_test_rows(smoke):
    _, _, rows = smoke
    assert rows.keys() == FLOORS.keys() | {"sasrec"}
    assert {(row.status, row.n) for row in rows.values()} == {("done", 150)}


@pytest.mark.parametrize("name", FLOORS)
def test_floors_have_the_pinned_values(smoke, name):
    found = figures(smoke, name)
    assert (found.mean("ndcg@10"), found.mean("hit@10")) == pytest.approx(FLOORS[name], rel=1e-9)


def test_sasrec_has_the_pinned_values(smoke):
    row = smoke[2]["sasrec"]
    assert abs(figures(smoke, "sasrec").mean("hit@10") * 150 - SASREC_HITS) <= ROWS_OF_SLACK
    assert row.facts["valid_ndcg@5"] == pytest.approx(SASREC_VALID, abs=ROWS_OF_SLACK / 200)
    assert (row.facts["epochs"], row.facts["parameters_total"]) == (3, 208_384)


def test_a_second_run_finds_everything_done(smoke):
    order, store, rows = smoke
    plan = prepare(order, store).plan
    assert (len(plan.jobs), plan.todo) == (len(rows), [])
