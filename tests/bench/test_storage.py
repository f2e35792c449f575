"""A full or read-only disk ends a run with one line; what was finished is kept and the run goes on later."""

import pytest
from _board_rows import tiny_board
from _faults import fill, make_writable, small_disk
from _habits import start, wait_for

from bench.api import default_store, execute, prepare
from bench.board import write_board
from bench.disk.storage import write_json
from bench.errors import StorageError
from bench.results.row_files import read_row

GO_ON = "then run the same command again: what was finished is kept"


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        yield folder


def _fitting(tmp_path):
    log = tmp_path / "habits.log"
    return log.exists() and log.read_text().split().count("fit") == 2


# a disk with open files of ours, as the store's is, cannot be made read-only from outside
@pytest.mark.parametrize(
    ("place", "fault"), [("rows", "full"), ("store", "full"), ("rows", "read-only")]
)
def test_a_run_goes_on_after_the_disk_was_at_fault(bench_order, tmp_path, disk, place, fault):
    homes = {"out": tmp_path / "out", "store": tmp_path / "run"}
    homes["out" if place == "rows" else "store"] = disk / "home"
    store = default_store(**homes)
    order = bench_order("good", "waits", jobs=1)
    broken = []

    def break_it(progress):
        if not broken and _fitting(tmp_path):
            broken.append(fill(disk) if fault == "full" else make_writable(disk, False))
            (tmp_path / "go").touch()

    with pytest.raises(StorageError, match=f"cannot be written: the .* {fault}; .*, {GO_ON}"):
        execute(prepare(order, store), notify=break_it)
    (kept,) = [read_row(path) for path in store.rows.rglob("*.json")]
    assert kept.cell.config["habit"] == "good"
    broken[0].unlink() if fault == "full" else make_writable(disk, True)
    (row,) = execute(prepare(order, store))
    assert (row.status, row.reason, row.cell.config["habit"]) == ("done", "", "waits")


def test_the_command_line_says_it_in_one_line(bench_order, tmp_path, disk):
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
    assert f"cannot be written: the disk is full; make room, {GO_ON}" in said.splitlines()[-1]


def test_a_table_or_readme_is_the_old_one_or_the_new_one(tmp_path, disk):
    out = disk / "leaderboards"
    tiny_board(out / "rows")
    readme = disk / "README.md"
    readme.write_text("before\n<!-- board:begin -->\nold\n<!-- board:end -->\nafter\n")
    filler = fill(disk)
    with pytest.raises(OSError, match=r"No space left|the disk is full"):
        write_board(out / "rows", out, readme=readme)
    assert readme.read_text().endswith("after\n")
    filler.unlink()
    write_board(out / "rows", out, readme=readme)
    assert readme.read_text().endswith("after\n")


def test_nothing_half_is_left_of_a_file_that_did_not_fit(tmp_path, disk):
    path = disk / "row.json"
    write_json(path, {"old": 1})
    fill(disk)
    with pytest.raises(StorageError, match="the disk is full"):
        write_json(path, {"new": "x" * 100_000})
    assert path.read_text() == '{\n "old": 1\n}\n'
    assert sorted(path.name for path in disk.iterdir()) == ["filler", "row.json"]
