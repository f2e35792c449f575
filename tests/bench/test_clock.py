"""A clock on the wall that is set back or forward while cells run: no duration is taken from it."""

import itertools
import math
import time

import pytest
from _in_process import answers, lost_and_twice, run

from bench.api import default_store, prepare
from bench.disk.digests import file_digest
from bench.execution.status import Status, read_status, remaining

DAY = 86_400.0
JUMPS = {"back": (0.0, -DAY), "forward": (0.0, DAY), "to and fro": (DAY, -DAY, 0.0)}


@pytest.fixture(params=JUMPS)
def jumps(request, monkeypatch):
    """Let every look at the clock on the wall find it set to another time."""
    true, offsets = time.time, itertools.cycle(JUMPS[request.param])
    monkeypatch.setattr("time.time", lambda: true() + next(offsets))
    return request.param


def test_durations_are_those_that_passed_and_every_cell_has_one_row(
    bench_order, store, tmp_path, jumps, monkeypatch, tell
):
    began = time.monotonic()
    rows, _ = run(bench_order("good", "needs"), store)
    passed = time.monotonic() - began
    for row in rows:
        assert row.status == "done"
        assert all(0 <= bill["seconds"] <= passed for bill in row.cost.values())
    monkeypatch.undo()
    calm = default_store(tmp_path / "calm" / "out", tmp_path / "calm" / "run")
    run(bench_order("good", "needs"), calm)
    lost, twice = lost_and_twice(answers(calm), answers(store))
    assert (lost, twice, prepare(bench_order("good", "needs"), store).plan.todo) == (0, 0, [])
    tell(f"clock set {jumps} while cells run", True, lost, twice, "", True)


def test_what_is_left_of_a_fit_is_finite_and_not_negative(tmp_path, jumps):
    status = Status(tmp_path / "status.json")
    status.enter("fit")
    for epoch in range(1, 6):
        status._last = -math.inf
        status.report(epoch, 10)
        left = remaining(read_status(status.path), predicted=60.0, elapsed=1.0)
        assert 0 <= left <= 60.0


def test_a_lock_is_held_whatever_the_clock_says(store, jumps):
    with store.claim("k") as mine, store.claim("k") as other:
        assert (mine, other) == (True, False)
    with store.claim("k", wait=0.5) as mine:
        assert mine


def test_a_noted_checksum_is_of_the_file_as_it_is(tmp_path, jumps, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("bench.disk.digests.LARGE", 10)
    path, found = tmp_path / "large", set()
    for byte in (b"a", b"b", b"c"):
        path.write_bytes(byte * 100)
        found |= {file_digest(path), file_digest(path)}
    assert len(found) == 3
