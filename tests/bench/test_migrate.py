"""Rows that were made before a stratum was defined get it from the dataset, not from a new run."""

from dataclasses import replace

import numpy as np

from bench.execution.runner import run_cell
from bench.execution.work import Surroundings
from bench.experiment.choice import Choice
from bench.experiment.grid import expand
from bench.experiment.migrate import migrate
from bench.experiment.suite import read
from bench.results.packed import Packed


def test_older_rows_get_the_strata_of_today_and_keep_the_rest(store):
    (cell,) = expand(read("smoke"), Choice(methods=["popularity"])).cells
    with store.claim(cell.key):
        run_cell(cell, Surroundings(store=store))
    json = store.row_path(cell)
    path, text = json.with_suffix(".npz"), json.read_bytes()
    made, content = Packed.load(path), path.read_bytes()
    assert {"same_day", "series", "title_new"} <= made.masks.keys()
    replace(made, masks={name: made.masks[name] for name in ("warm", "cold")}).save(path)
    (outcome,) = migrate(store.rows, store, data_root=None, dry=False)
    assert outcome.row is not None and outcome.row.cell.key == cell.key
    assert path.read_bytes() == content and json.read_bytes() == text
    assert np.array_equal(Packed.load(path).title.position_Q, made.title.position_Q)
