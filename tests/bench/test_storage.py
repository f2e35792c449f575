"""A full or read-only disk ends a run with one line; what was finished is kept and the run goes on later."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from _board_rows import tiny_board
from _faults import fill, make_writable, small_disk
from _habits import start, wait_for
from _in_process import counted

from bench.api import default_store, execute, prepare
from bench.board import write_board
from bench.data.formats.atomic import write_atomic
from bench.data.formats.delimited import write_published
from bench.data.formats.trec import write_qrels
from bench.data.load import load_dataset
from bench.disk.storage import write_json
from bench.errors import BenchError, StorageError
from bench.execution.faults import log_trace
from bench.method import keep
from bench.registry import methods
from bench.results.row_files import read_row
from bench.results.store import Store

HOUSE = Path(__file__).resolve().parents[2]
GO_ON = "then run the same command again: what was finished is kept"


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        yield folder


# a disk with open files of ours, as the store's is, cannot be made read-only from outside
@pytest.mark.parametrize(
    ("place", "fault"), [("rows", "full"), ("store", "full"), ("rows", "read-only")]
)
def test_a_run_goes_on_after_the_disk_was_at_fault(bench_order, tmp_path, disk, place, fault, tell):
    homes = {"out": tmp_path / "out", "store": tmp_path / "run"}
    homes["out" if place == "rows" else "store"] = disk / "home"
    store = default_store(**homes)
    order = bench_order("good", "waits", jobs=2)
    log = tmp_path / "habits.log"
    broken = []

    def break_it(progress):
        both = log.exists() and log.read_text().split().count("fit") == 2
        if not broken and both and list(store.rows.rglob("*.json")):
            broken.append(fill(disk) if fault == "full" else make_writable(disk, False))
            (tmp_path / "go").touch()

    said = f"cannot be written: the .* {fault}; .*, {GO_ON}"
    with pytest.raises(StorageError, match=said) as caught:
        execute(prepare(order, store), notify=break_it)
    (kept,) = [read_row(path) for path in store.rows.rglob("*.json")]
    assert kept.cell.config["habit"] == "good"
    broken[0].unlink() if fault == "full" else make_writable(disk, True)
    (row,) = execute(prepare(order, store))
    assert (row.status, row.reason, row.cell.config["habit"]) == ("done", "", "waits")
    what = f"disk {fault} while a cell runs ({place})"
    tell(what, True, *counted(store, 2), str(caught.value), True)


def test_the_command_line_says_it_in_one_line(bench_order, tmp_path, disk, tell):
    store = default_store(disk / "out", disk / "run")
    runner = start(bench_order("waits"), store, tmp_path)
    log = tmp_path / "habits.log"
    wait_for(log.exists)
    fill(disk)
    (tmp_path / "go").touch()
    code = runner.wait(timeout=60)
    assert code == 2, runner.said.read_text()
    said = runner.said.read_text()
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert f"cannot be written: the disk is full; make room, {GO_ON}" in last
    tell("disk full under `bench run`", True, 0, 0, last, True)


def test_a_table_or_readme_is_the_old_one_or_the_new_one(tmp_path, disk, tell):
    out = disk / "leaderboards"
    tiny_board(out / "rows")
    readme = disk / "README.md"
    readme.write_text("before\n<!-- board:begin -->\nold\n<!-- board:end -->\nafter\n")
    filler = fill(disk)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        write_board(out / "rows", out, readme=readme)
    assert readme.read_text().endswith("after\n")
    filler.unlink()
    write_board(out / "rows", out, readme=readme)
    assert readme.read_text().endswith("after\n")
    tell("disk full while tables are written", True, 0, 0, str(caught.value), True)


# what writes each kind of file beside rows and tables, on a disk that has no room for it
def _checkpoint(folder):
    torch = pytest.importorskip("torch")
    pytest.importorskip("recbole")
    from baselines.checkpoints import save_state

    save_state(folder / "checkpoint.pt", {"weights": torch.zeros(300_000)})


def _method(folder):
    method = methods.get("popularity")()
    method.state = {"count": np.zeros(300_000)}
    keep(method, folder / "model")


def _own_file(folder):
    """A method that saves with numpy, which has its own words for a full disk."""

    class Own(type(methods.get("popularity")())):
        def save(self, folder):
            np.save(folder / "own.npy", np.zeros(300_000))

    keep(Own(), folder / "model")


def _log(folder):
    log_trace(folder / "cell", ValueError("x" * 300_000))


def _lists(folder):
    arrays = {"item_QK": np.random.default_rng(0).integers(0, 1 << 30, 300_000)}
    Store(folder / "rows", folder / "run").write_lists("k", arrays)


def _qrels(folder):
    dataset = load_dataset("ml_100k", None)
    write_qrels(dataset.split.test, folder / "out.qrels")


def _dataset(folder):
    write_published(load_dataset("ml_100k", None), folder / "mine")


def _atomic(folder):
    write_atomic(load_dataset("ml_100k", None), folder / "mine")


WRITERS = {
    "checkpoint": _checkpoint,
    "fitted method": _method,
    "fitted method of a plugin": _own_file,
    "log": _log,
    "file of lists": _lists,
    "file of judgements": _qrels,
    "dataset": _dataset,
    "export for RecBole": _atomic,
}
FAULTS = {"full": "the disk is full|No space left", "read-only": "read-only|Read-only"}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("what", WRITERS)
def test_what_does_not_fit_is_told_in_one_line_and_the_retry_works(disk, tell, what, fault):
    if fault == "full":
        filler = fill(disk)
    else:
        make_writable(disk, False)
    with pytest.raises(BenchError, match=f"cannot be written.*({FAULTS[fault]})") as caught:
        WRITERS[what](disk)
    assert "\n" not in str(caught.value) and str(disk) in str(caught.value)
    filler.unlink() if fault == "full" else make_writable(disk, True)
    half = [path for path in disk.rglob("*") if path.is_file() and path.parent.name != "cell"]
    assert {path.parent.name for path in half} <= {"model"}, "a folder that counts as unfinished"
    assert not (disk / "model" / "method.json").exists()
    WRITERS[what](disk)
    tell(f"disk {fault} while a {what} is written", True, 0, 0, str(caught.value), True)


def test_a_quota_on_the_size_of_files_is_told_with_the_way_out(tmp_path, tell):
    code = (
        "import resource, sys; from pathlib import Path; from bench.disk.storage import write_whole; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY)); "
        f"write_whole(Path({str(tmp_path / 'x')!r}), lambda part: part.write_bytes(b'x' * 4096))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HOUSE)
    last = done.stderr.strip().splitlines()[-1]
    assert "x cannot be written: files may not grow that large; raise the limit (ulimit -f)" in last
    assert list(tmp_path.iterdir()) == []
    tell("quota on the size of a file", True, 0, 0, last, True)


def test_nothing_half_is_left_of_a_file_that_did_not_fit(tmp_path, disk):
    path = disk / "row.json"
    write_json(path, {"old": 1})
    fill(disk)
    with pytest.raises(StorageError, match="the disk is full"):
        write_json(path, {"new": "x" * 100_000})
    assert path.read_text() == '{\n "old": 1\n}\n'
    assert sorted(path.name for path in disk.iterdir()) == ["filler", "row.json"]
