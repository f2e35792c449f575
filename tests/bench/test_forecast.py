"""What a cell will take is foretold from rows that are known; each case is worked out by hand."""

import logging
import math
from dataclasses import replace

import pytest

from bench.api import Order, execute, prepare
from bench.cell import Cell, Row
from bench.cli import main
from bench.disk.sealed import read_note
from bench.errors import DamagedError
from bench.experiment.choice import Choice
from bench.experiment.forecast import (
    Calibration,
    Forecaster,
    Known,
    beside,
    calibration_path,
    history_of,
)
from bench.experiment.forecast.forecast import Forecast, spread_of_sum
from bench.experiment.forecast.size import size_of, to_note
from bench.registry import load_plugins
from bench.results.row_files import read_row

PLUGIN = '''
from bench.method import Method
from bench.registry import methods

@methods.register("untold")
class Untold(Method):
    """It says nothing of its time."""
    family = "traditional"

    def fit(self, train, valid, run): ...
    def recommend(self, queries, k): ...
'''


@pytest.fixture(scope="module")
def untold(tmp_path_factory):
    """A method without an estimate."""
    path = tmp_path_factory.mktemp("plugin") / "untold.py"
    path.write_text(PLUGIN)
    load_plugins([str(path)])
    return "untold"


def cell(method="sasrec", rows=1000, **more):
    return Cell(
        dataset="ml_100k", data_version="v", method=method, train_rows=rows, test_rows=100, **more
    )


def known(cell, seconds, source="own rows", **made):
    """A finished row that took so long, and no time to start, and waited for nobody."""
    made = {"device": "cpu", "wall_seconds": seconds, "size": to_note(size_of(cell, None)), **made}
    cost = {"fit": {"seconds": seconds}}
    return Known(Row(cell=cell, status="done", cost=cost, provenance=made), source)


def foretold(cell, *history):
    return Forecaster(history, None, {"ml_100k"}).of(cell)


def test_a_cell_that_was_run_here_takes_what_its_latest_row_took():
    old = known(cell(), 90.0, date="2026-01-01")
    new = known(cell(seed=1), 50.0, date="2026-02-01")
    found = foretold(cell(seed=2), new, old, known(cell("dros"), 5.0))
    assert (found.seconds, found.basis) == (50.0, "own cell")


def test_rows_from_elsewhere_are_put_right_by_the_speed_of_this_machine():
    there = [known(cell("sasrec"), 20.0, "published"), known(cell("dros"), 30.0, "published")]
    here = known(cell("sasrec"), 60.0, "calibration")
    assert foretold(cell("dros"), *there).seconds == pytest.approx(30.0)
    found = foretold(cell("dros"), *there, here)
    assert (found.seconds, found.basis) == (pytest.approx(90.0), "published")
    counting = foretold(cell("markov"), *there, here, known(cell("markov"), 2.0, "published"))
    assert counting.seconds == pytest.approx(2.0), "its speed is not that of training networks"


def test_nearer_relatives_come_first_and_are_surer():
    loss, method, kind = cell(loss="bce"), cell(loss="ce"), cell("bert4rec")
    far = known(kind, 500.0)
    assert foretold(loss, far).basis == "own rows"
    near = foretold(loss, far, known(method, 40.0))
    assert near.seconds == pytest.approx(40.0)
    assert near.spread < foretold(loss, far).spread < foretold(loss).spread
    assert foretold(loss, known(method, 40.0, "published")).spread > near.spread


def test_time_grows_with_the_rows():
    history = [known(cell("sasrec"), 20.0), known(cell("dros"), 30.0, "published")]
    for method in ("sasrec", "dros", "markov", "bert4rec"):
        times = [foretold(cell(method, rows), *history).seconds for rows in (10, 1000, 5000, 50000)]
        assert times == sorted(times) and (times[0] < times[-1] or method == "markov"), method


def test_a_method_without_an_estimate_is_scaled_by_its_rows_or_unknown(untold):
    asked = cell(untold, rows=400)  # and 100 test rows
    assert foretold(asked).basis == "unknown"
    assert foretold(asked, known(cell("markov"), 3.0)).basis in {"unknown", "own rows"}
    found = foretold(asked, known(cell(untold, rows=900), 50.0))
    assert found.seconds == pytest.approx(25.0)
    # of another method of its kind: 1100 rows took 44 seconds
    other = foretold(asked, known(cell("popularity"), 44.0))
    assert other.seconds == pytest.approx(500 * 44 / 1100)
    assert other.spread > 1.5 > found.spread


def test_seconds_in_which_others_had_the_core_do_not_count():
    cost = {
        "fit": {"seconds": 100.0, "cpu_seconds": 30.0},
        "recommend": {"seconds": 5.0, "cpu_seconds": 4.0},
    }
    made = {"device": "cpu", "threads": 1, "wall_seconds": 107.0}
    row = Row(cell=cell(), status="done", cost=cost, provenance=made)
    assert Known(row, "own rows").seconds == pytest.approx(36.0)
    two = replace(row, provenance={**made, "threads": 2})
    assert Known(two, "own rows").seconds == pytest.approx(107.0)
    bare = replace(row, provenance={"device": "cuda"})
    assert Known(bare, "own rows").seconds == pytest.approx(106.0), (
        "a second to start where no row says it"
    )


def test_memory_and_disk_are_the_most_that_near_relatives_took():
    def took(loss, seed, peak, disk=None):
        one = known(cell(loss=loss, seed=seed), 9.0, **({"disk_bytes": disk} if disk else {}))
        return Known(replace(one.row, cost={"fit": {"peak_host_bytes": peak}}), "own rows")

    found = foretold(
        cell(loss="ce"), took("ce", 0, 5.0), took("ce", 1, 7.0), took("bce", 0, 9.0, 3.0)
    )
    assert (found.host_bytes, found.disk_bytes, found.gpu_bytes) == (7.0, 3.0, None)


def test_the_spread_of_a_sum_lies_between_that_of_errors_shared_and_own():
    parts = [Forecast(10.0, 0.4, "own rows"), Forecast(10.0, 0.4, "own rows")]
    own, shared = 0.4 / math.sqrt(2), 0.4
    assert spread_of_sum(parts) == pytest.approx(math.sqrt((own**2 + shared**2) / 2))
    assert spread_of_sum([]) == 0.0


def _calibration():
    made = {"machine": "2 x cpu", "date": "2026-01-02T03:04:05Z", "versions": {"torch": "2.9"}}
    return Calibration.of([known(cell("sasrec"), 60.0, **made).row])


def test_a_calibration_comes_back_as_it_was_written(store):
    path = calibration_path(store.root, "cpu")
    assert Calibration.read(path) is None
    _calibration().write(path)
    assert Calibration.read(path) == _calibration()
    (found,) = history_of(replace(store, published=None), "cpu")
    assert (found.source, found.seconds) == ("calibration", 60.0)
    assert history_of(replace(store, published=None), "cuda") == []


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-20], lambda b: b.replace(b"60", b"61"), lambda b: b""]
)
def test_a_damaged_calibration_is_one_line_and_ignored(store, damage, caplog):
    path = calibration_path(store.root, "cpu")
    _calibration().write(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedError):
        Calibration.read(path)
    with caplog.at_level(logging.WARNING):
        assert history_of(replace(store, published=None), "cpu") == []
    (line,) = caplog.messages
    assert "bench calibrate" in line and "\n" not in line


def test_another_machine_is_asked_for_by_a_part_of_its_name(store, capsys):
    for machine, device, seconds in (
        ("16 x cpu, 1 x H100", "cuda:0", 7.0),
        ("2 x cpu", "cpu", 70.0),
    ):
        row = known(cell("sasrec", rows=int(seconds)), seconds, machine=machine, device=device).row
        store.write(row)
    (found,) = history_of(replace(store, published=None), "cuda", "h100")
    assert (found.seconds, found.here) == (7.0, True)
    where = ["--out", str(store.rows.parent), "--store", str(store.root)]
    assert main(["plan", "--suite", "smoke", "--device", "B200", *where]) == 2
    said = capsys.readouterr().err
    assert "no row was made on such a machine" in said and "1 x H100" in said


def test_a_row_says_what_it_took_beside_what_was_foretold(store, tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "title: t\ndatasets: [ml_100k]\ntrain_rows: 200\ntest_rows: 20\nrows:\n  - {method: markov}\n"
    )
    prepared = prepare(Order(suite=str(suite), choice=Choice(scale="embedded")), store)
    (job,) = prepared.plan.todo
    (row,) = execute(prepared)
    stored = read_row(store.row_path(row.cell)).provenance
    assert stored["predicted_seconds"] == pytest.approx(job.forecast.interval)
    assert (
        0 < stored["wall_seconds"]
        and 0 < stored["disk_bytes"]
        and stored["size"]["train_rows"] == 200
    )
    found = beside([row])
    assert (found.cells, found.seconds) == (1, stored["wall_seconds"])
    (again,) = prepare(prepared.order, store).plan.jobs
    assert again.measured and again.forecast.disk_bytes == stored["disk_bytes"]


def test_near_and_inside_are_counted():
    rows = [
        replace(known(cell(seed=n), took).row, status="done")
        for n, took in enumerate((12.0, 14.0, 30.0))
    ]
    rows = [
        replace(row, provenance={**row.provenance, "predicted_seconds": [10.0, 5.0, 20.0]})
        for row in rows
    ]
    cut_off = replace(rows[0], facts={"attempts": 2})
    found = beside([*rows, cut_off, replace(rows[0], status="failed")])
    assert (found.cells, found.near, found.inside) == (3, 1, 2)
    assert (found.predicted, found.seconds) == (30.0, 56.0)
    assert beside([]) is None


def test_the_file_of_a_calibration_names_machine_library_and_date(store):
    path = calibration_path(store.root, "cpu")
    _calibration().write(path)
    note = read_note(path)
    assert (note["machine"], note["torch"], note["date"]) == (
        "2 x cpu",
        "2.9",
        "2026-01-02T03:04:05Z",
    )
