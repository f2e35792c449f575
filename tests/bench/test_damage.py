"""Every kind of file that a run leaves, harmed in every way: never used, named in one line, made again."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from _habits import order_in
from _in_process import answers, lost_and_twice, run

from bench.api import default_store, prepare
from bench.cli import main
from bench.disk.manifest import MANIFEST, seal_folder
from bench.disk.sealed import owner, with_seal, write_note, write_sealed
from bench.disk.sealed_arrays import sealed_npz, write_array
from bench.errors import DamagedError
from bench.evaluation.positions import Positions
from bench.execution import store_files
from bench.execution.store_files import CACHE, NUMBERS, ROWS, STORE, kind_of, look_through
from bench.results.packed import Packed
from bench.results.row_files import rows_under
from speed.harms import HARMS

# files that a run of two cells leaves, by kind, and where nothing rests on them
OF_A_RUN = {
    "fitted method": "cells/*/model/order.npy",
    "manifest of a fitted method": "cells/*/model/method.json",
    "bill of a fit": "cells/*/fit.json",
    "progress": "cells/*/status.json",
    "mark of an answer": "cells/*/answered",
    "lists": "cells/*/lists.npz",
}
QUIET = {"progress", "mark of an answer", "lists"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Stores after one, two and three cells that nothing disturbed, with what builds their orders."""
    home = tmp_path_factory.mktemp("calm")
    order = order_in(home)
    for number, habits in enumerate((["good"], ["good", "needs"], ["good", "needs", "slow"]), 1):
        if number > 1:
            shutil.copytree(home / str(number - 1), home / str(number))
        run(order(*habits), _store(home / str(number)))
    return home, order


def _store(home):
    return default_store(home / "out", home / "run")


@pytest.fixture
def clean(calm, tmp_path):
    """A copy of the store in which one cell is done that another needs, and the answers of both."""
    home, order = calm
    shutil.copytree(home / "1", tmp_path / "store")
    return _store(tmp_path / "store"), answers(_store(home / "2")), order


@pytest.fixture
def three(calm, tmp_path):
    """A copy of the store in which three cells are done, with their answers."""
    home, order = calm
    shutil.copytree(home / "3", tmp_path / "store")
    return _store(tmp_path / "store"), answers(_store(home / "3")), order


def _heals(store, expected, order, tell, what):
    """Run cells on a harmed store: rows are those of an undisturbed run, and nothing is left to do."""
    rows, said = run(order, store)
    lost, twice = lost_and_twice(expected, answers(store))
    assert (lost, twice) == (0, 0), [row.reason for row in rows]
    assert len(answers(store)) == len(expected)
    assert all("\n" not in line for line in said)
    assert prepare(order, store).plan.todo == []
    tell(what, True, lost, twice, said[0] if said else "", bool(said))
    return said


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kind", OF_A_RUN)
def test_what_a_needed_cell_left_is_checked_and_made_again(clean, tell, kind, harm):
    store, expected, order = clean
    (path,) = store.root.glob(OF_A_RUN[kind])
    HARMS[harm](path)
    said = _heals(store, expected, order("good", "needs"), tell, f"{kind}: {harm}")
    if kind in QUIET:
        assert said == []
        return
    assert len(said) == 1 and "made again" in said[0]
    assert list(store.root.glob("cells/*/*.damaged-1")), "what was damaged is kept"
    assert [found.path for found in look_through(store) if found.fault] == []


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("ending", [".json", ".npz"])
def test_a_damaged_row_of_ones_own_is_made_again(clean, tell, ending, harm):
    store, expected, order = clean
    (path,) = store.rows.rglob(f"*{ending}")
    HARMS[harm](path)
    name = {".json": "row", ".npz": "positions of a row"}[ending]
    said = _heals(store, expected, order("good", "needs"), tell, f"{name}: {harm}")
    assert len(said) == 1 and f"kept as {path.name}.damaged-1" in said[0]


def _turn_round(path):
    """Make the positions of a row whole ones that are not its own."""
    packed = Packed.load(path)
    replace(packed, title=Positions(packed.title.position_Q[::-1].copy())).save(path)


def test_positions_that_are_whole_but_another_rows_are_not_used(three, tell):
    store, expected, order = three
    _turn_round(next(store.rows.rglob("*.npz")))
    what = "positions of another row in a row's place"
    said = _heals(store, expected, order("good", "needs", "slow"), tell, what)
    assert len(said) == 1 and "not those of the row beside them" in said[0]


def test_the_fit_of_another_cell_in_a_cells_place_is_not_used(three, tell):
    store, expected, order = three
    (consumer,) = [row for _, row in rows_under(store.rows) if row.cell.needs]
    (need,) = consumer.cell.needs.values()
    for path in store.rows.rglob(f"{store.row_path(consumer.cell).stem}.*"):
        path.unlink()
    here = store.folder(need)
    others = (path.parent for path in store.root.glob("cells/*/fit.json"))
    other = next(path for path in others if path.name not in (need, consumer.cell.key))
    shutil.rmtree(here / "model")
    shutil.copytree(other / "model", here / "model")
    shutil.rmtree(store.folder(consumer.cell.key))
    what = "fitted method of another cell in a cell's place"
    said = _heals(store, expected, order("good", "needs", "slow"), tell, what)
    assert len(said) == 1 and "it is not the one that was fitted here" in said[0]


@pytest.mark.parametrize("harm", HARMS)
def test_an_unfinished_fit_whose_cost_is_unknown_begins_anew(
    bench_order, store, monkeypatch, tell, harm
):
    class Killed(BaseException):
        pass

    def kill(*words, **more):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("bench.execution.runner.Attempt.progress", kill)
        with pytest.raises(Killed):
            run(bench_order("good"), store)
    (part,) = store.root.glob("cells/*/fit-part.json")
    HARMS[harm](part)
    ((row,), said) = run(bench_order("good"), store)
    assert (row.status, row.facts["resumed_from"], row.facts["attempts"]) == ("done", 0, 1)
    assert len(said) == 2 and list(part.parent.glob("scratch.damaged-1"))
    tell(f"bill of an unfinished fit: {harm}", True, 0, 0, said[0], True)


def _sealed(path, of):
    write_sealed(path, b"tensors " * 9, of=of)


def _npz(path, of):
    path.write_bytes(sealed_npz({"a": np.arange(9)}, of=of))


def _folder(path):
    path.write_bytes(b"weights " * 9)
    seal_folder(path.parent)


def _lines(path):
    path.write_text("".join(json.dumps(with_seal({"row": n, "text": "t"})) + "\n" for n in (1, 2)))


# how a file of each kind comes about; a kind without an entry fails below
MADE = {
    "manifest of a folder": ("cells/k/scratch/tuning/checkpoint-3/w.bin", _folder),
    "bill of an unfinished fit": (
        "cells/k/fit-part.json",
        lambda path: write_note(path, {"cost": {}, "attempts": 1}),
    ),
    "progress": ("cells/k/status.json", lambda path: write_note(path, {"phase": "fit"})),
    "lists": ("cells/k/lists.npz", lambda path: _npz(path, "k")),
    "checkpoint folder": ("cells/k/scratch/tuning/checkpoint-3/w.bin", _folder),
    "checkpoint file": ("cells/k/scratch/c.pt", lambda path: _sealed(path, owner(path))),
    "computed array": ("cells/k/scratch/text-1.npy", lambda path: write_array(path, np.arange(9))),
    "written lines": ("cells/k/scratch/gen-1.jsonl", _lines),
    "trials of a search": (
        "cells/k/scratch/trials.json",
        lambda path: write_note(path, {"of": "k/scratch", "trials": []}),
    ),
    "record of a microscope": (
        "cells/k/scratch/microscope.json",
        lambda path: write_note(path, {"rows": 2, "looks": []}),
    ),
    "numbers of tables": ("abc.npz", lambda path: _npz(path, "abc")),
    "note of a checksum": ("digests/1", lambda path: write_note(path, {"of": "f", "digest": "0"})),
    "unpacked model": ("model-1/w.bin", _folder),
}
BY_A_RUN = {
    "fitted method",
    "bill of a fit",
    "mark of an answer",
    "row",
    "positions",
    "row of a stage",
}
ALL = {k.name: k for k in (*store_files.EVERYWHERE, *STORE, *ROWS, *NUMBERS, *CACHE) if k.check}


def test_every_kind_of_file_is_harmed_by_some_test():
    assert MADE.keys() | BY_A_RUN == ALL.keys()


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kind", MADE)
def test_a_harmed_file_is_never_read(tmp_path, kind, harm):
    name, make = MADE[kind]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    if kind.startswith("manifest"):
        path = path.with_name(MANIFEST)
    ALL[kind].check(path)
    HARMS[harm](path)
    if kind == "written lines" and harm != "flip":
        return  # what is left of a line without its end counts as not written, and is no damage
    with pytest.raises(DamagedError):
        ALL[kind].check(path)


def test_every_file_that_a_run_leaves_has_a_kind_and_verify_reads_it(clean, capsys):
    store, _, _ = clean
    found = list(look_through(store))
    assert [one.path for one in found if one.kind is None] == []
    assert len(found) >= 9
    assert kind_of("cells/k/novel.bin", STORE) is None
    words = ["verify", "--store", str(store.root), "--out", str(store.rows.parent)]
    assert main(words) == 0
    assert " 0 damaged" in capsys.readouterr().out
    (path,) = store.root.glob("cells/*/model/order.npy")
    HARMS["flip"](path)
    (store.root / "cells" / "novel.bin").write_bytes(b"1")
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "order.npy has other bytes than were written; it is fitted again" in said
    assert "novel.bin: of no known kind" in said and " 1 damaged" in said


def test_tables_refuse_positions_of_another_row(three, tmp_path, capsys):
    store, _, _ = three
    _turn_round(next(store.rows.rglob("*.npz")))
    words = ["--rows", str(store.rows)]
    assert main(["board", *words, "--out", str(tmp_path / "tables")]) == 1
    assert "not those of the row beside them" in capsys.readouterr().err
    assert main(["verify", *words]) == 1
    assert "not those of the row beside them" in capsys.readouterr().out
