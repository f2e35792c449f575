"""Running a plan: order, failures that stay inside their cell, kills, resumption, two runners at once."""

import contextlib
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
from _habits import start, wait_for
from _in_process import counted

from bench.api import default_store, execute, prepare
from bench.cell import Row
from bench.execution.process import End, died
from bench.execution.runner import run_cell
from bench.execution.schedule import Progress, Schedule
from bench.execution.status import Status, read_status, remaining
from bench.execution.work import Surroundings
from bench.experiment.forecast import Forecast
from bench.experiment.plan import Plan
from bench.results.packed import Packed
from bench.results.row_files import read_row


def _run(order, store):
    return {row.cell.config["habit"]: row for row in execute(prepare(order, store))}


def _positions(store, row):
    return Packed.load(store.row_path(row.cell).with_suffix(".npz")).title.position_Q.tolist()


def test_a_failure_stays_inside_its_cell_and_on_the_board(bench_order, store):
    order = bench_order("good", "raises", "unavailable", "dies", "needs", "needs a failure")
    rows = _run(order, store)
    assert rows["good"].status == "done"
    assert rows["needs"].status == "done"
    assert rows["raises"].status == "failed"
    assert "a planted fault" in rows["raises"].reason
    assert rows["unavailable"].status == "left out"
    assert rows["dies"].status == "failed"
    assert "signal 9 2 times" in rows["dies"].reason
    assert rows["needs a failure"].status == "failed"
    assert "a planted fault" in rows["needs a failure"].reason
    assert rows["good"].n == 40
    assert rows["good"].cost["fit"]["seconds"] >= 0
    again = prepare(order, store)
    assert not again.plan.todo, "answered cells are not run again, failed ones included"
    retried = prepare(bench_order("good", "raises", retry=True), store)
    assert [job.cell.config["habit"] for job in retried.plan.todo] == ["raises"]


def test_a_cell_that_is_needed_on_two_ways_is_charged_once(bench_order, store):
    row = _run(bench_order("needs twice"), store)["needs twice"]
    upstream = row.facts["upstream"]
    assert upstream.keys() == set(row.cell.needs.values())
    assert row.facts["upstream_seconds"] == sum(upstream.values()) > 0


def test_a_cell_that_hangs_is_ended_at_its_limit(bench_order, store):
    start = time.monotonic()
    rows = _run(bench_order("hangs", limit=6.0), store)
    assert rows["hangs"].status == "failed"
    assert "limit of 6 s" in rows["hangs"].reason
    assert time.monotonic() - start < 60


def test_without_a_limit_a_cell_has_an_hour_or_ten_times_its_prediction(bench_order, store):
    plan = prepare(bench_order("good"), store).plan
    for predicted, limit in ((1.0, 3600.0), (1000.0, 10000.0)):
        (job,) = plan.jobs
        guessed = Plan([replace(job, forecast=Forecast(predicted))], [])
        schedule = Schedule(guessed, Surroundings(store=store), _Ends(End("over")))
        schedule._jobs = {job.cell.key: guessed.jobs[0]}
        assert schedule._limit(job.cell) == limit
    quick_once = replace(job, forecast=Forecast(2.0, 0.0, "own cell"), guess=1000.0)
    schedule._jobs = {job.cell.key: quick_once}
    assert schedule._limit(job.cell) == 10000.0, "one quick row does not end a long cell"


def test_a_killed_run_resumes_where_it_was_and_ends_as_if_never_killed(
    bench_order, store, tmp_path, tell
):
    order = bench_order("slow")
    process = start(order, store, tmp_path)
    wait_for(lambda: any(path.read_text() for path in store.root.rglob("epochs.txt")))
    cells = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for cell in cells:  # they would follow within a second, but the cell might be done by then
        with contextlib.suppress(psutil.NoSuchProcess):
            cell.kill()
    process.wait()
    assert not list(store.rows.rglob("*.json"))
    row = wait_for(lambda: _run(order, store).get("slow"))
    assert row.status == "done"
    assert row.facts["resumed_from"] >= 1
    assert row.facts["attempts"] == 2
    assert row.cost["fit"]["seconds"] >= 1.2, "three epochs of 0.4 s, whoever ran them"
    clean = default_store(tmp_path / "out2", tmp_path / "run2")
    assert _positions(clean, _run(order, clean)["slow"]) == _positions(store, row)
    tell(
        "SIGKILL to a runner and its cell in the middle of a fit",
        True,
        *counted(store, 1),
        "",
        True,
    )


def test_two_runners_on_one_store_run_each_cell_once(bench_order, store, tmp_path, tell):
    order = bench_order("waits")
    runners = [start(order, store, tmp_path) for _ in range(2)]
    try:
        # both have made their plans, and one of them holds the cell, before it may end
        wait_for(lambda: all("1 of 1 cells" in r.said.read_text() for r in runners))
        wait_for((tmp_path / "habits.log").exists)
    finally:
        (tmp_path / "go").touch()
    assert [runner.wait(timeout=120) for runner in runners] == [0, 0]
    (path,) = store.rows.rglob("*.json")
    assert read_row(path).status == "done"
    lines = (tmp_path / "habits.log").read_text().split()
    assert lines == ["fit", "recommend", "recommend"], "validation and test, each once"
    tell("two runners on one store", True, *counted(store, 1), "", False)


def test_never_means_a_new_fit_and_what_cannot_be_read_is_fitted_again(
    bench_order, store, tmp_path
):
    log = tmp_path / "habits.log"
    first = _run(bench_order("good"), store)["good"]
    positions = _positions(store, first)
    again = _run(bench_order("good", reuse="never"), store)["good"]
    assert log.read_text().split().count("fit") == 2
    assert _positions(store, again) == positions
    (store.model(first.cell.key) / "order.npy").write_bytes(b"cut off")
    store.rows.joinpath("ml_100k").rename(tmp_path / "elsewhere")
    assert _positions(store, _run(bench_order("good"), store)["good"]) == positions
    assert log.read_text().split().count("fit") == 3


KILLED = died("its process", -signal.SIGKILL)


class _Ends:
    """An executor whose cells end at once in one way, after ``leave`` was called."""

    has_room = True

    def __init__(self, end, leave=lambda cell, where: None):
        self.end, self.leave, self.started = end, leave, []

    def start(self, cell, where):
        self.started.append((cell, where))
        self.leave(cell, where)
        return SimpleNamespace(cell=cell, started=time.monotonic(), end=lambda: self.end)

    def is_left(self, cell):
        return False

    def fits(self, ask):
        return True

    def finish(self, handle):
        pass

    def stop(self, handles):
        pass


def _answer(cell, where):
    where.store.write(Row(cell=cell, status="failed", reason="just now"))


def test_a_killed_cell_is_not_taken_as_done_from_an_older_row(bench_order, store):
    prepared = prepare(bench_order("good", reuse="never"), store)
    (job,) = prepared.plan.todo
    store.write(Row(cell=job.cell, status="done"))
    prepared = prepare(prepared.order, store)
    ends = _Ends(KILLED)
    (row,) = execute(prepared, executor=ends)
    assert (row.status, len(ends.started)) == ("failed", 2)
    assert "signal 9 2 times" in row.reason
    assert [where.fresh for _, where in ends.started] == [True, False], "a retry resumes"


def test_what_was_answered_since_the_plan_is_taken(bench_order, store):
    prepared = prepare(bench_order("good"), store)
    ends = _Ends(KILLED, _answer)
    (row,) = execute(prepared, executor=ends)
    assert (row.reason, len(ends.started)) == ("just now", 1)
    idle = _Ends(End("over"))
    assert execute(prepared, executor=idle)[0].reason == "just now"
    assert idle.started == [], "another runner answered it before it was started here"


def test_a_lost_job_says_why(bench_order, store):
    lost = _Ends(End("lost", "job 7 ended as NODE_FAIL", "look at the node"))
    (row,) = execute(prepare(bench_order("good"), store), executor=lost)
    assert row.reason == "job 7 ended as NODE_FAIL 5 times; look at the node"
    assert len(lost.started) == 5


def test_a_busy_cell_is_asked_for_again_later_and_never_noted_over_its_holder(
    bench_order, store, monkeypatch
):
    monkeypatch.setattr("bench.execution.schedule.BUSY_SECONDS", 0.5)
    prepared = prepare(bench_order("good"), store)
    (job,) = prepared.plan.todo
    begun = []

    def third_time(cell, where):
        begun.append(time.monotonic())
        if len(begun) == 3:
            _answer(cell, where)

    (row,) = execute(prepared, executor=_Ends(End("busy"), third_time))
    assert row.reason == "just now"
    assert begun[2] - begun[0] >= 1.0

    schedule = Schedule(prepared.plan, Surroundings(store=store), _Ends(End("over")))
    with store.claim(job.cell.key):
        schedule._note(Progress([]), job.cell, "failed", "from the side")
    assert store.read(job.cell).reason == "just now"


def test_a_cell_that_is_busy_without_end_is_given_up(bench_order, store, monkeypatch):
    monkeypatch.setattr("bench.execution.schedule.BUSY_SECONDS", 0.0)
    busy = _Ends(End("busy", "another runner held the cell"))
    (row,) = execute(prepare(bench_order("good"), store), executor=busy)
    assert (row.status, row.reason) == ("failed", "another runner held the cell 20 times")
    assert len(busy.started) == 20


def test_no_process_is_started_for_a_cell_that_another_runner_holds(bench_order, store):
    prepared = prepare(bench_order("good"), store)
    (job,) = prepared.plan.todo
    ends = _Ends(End("over"))
    schedule = Schedule(prepared.plan, Surroundings(store=store), ends)
    schedule._jobs = {job.cell.key: job}
    progress = Progress([job])
    with store.claim(job.cell.key):
        schedule._start_ready(progress)
    assert (ends.started, progress.waiting, progress.running) == ([], [job], [])
    assert schedule._not_before[job.cell.key] > time.monotonic()


def test_a_cell_left_out_here_is_shown_where_another_machine_answered_it(bench_order, store):
    plan = prepare(bench_order("good"), store).plan
    (job,) = plan.todo
    store.write(Row(cell=job.cell, status="done"))
    absent = replace(job.cell, data_version="")
    schedule = Schedule(
        Plan([], [(absent, "no such data here")]), Surroundings(store=store), _Ends(End("over"))
    )
    (row,) = schedule.run()
    assert (row.status, row.reason) == ("left out", "no such data here")
    assert [read_row(path).status for path in store.rows.rglob("*.json")] == ["done"]


def test_a_row_says_which_artefact_it_rests_on(bench_order, store):
    order = bench_order("needs", reuse="any")
    prepared = prepare(order, store)
    need, cell = (job.cell for job in prepared.plan.jobs)
    older = replace(need, versions={"method": 0})
    store.write(Row(cell=older, status="done"))
    store.model(older.key).mkdir()
    (store.model(older.key) / "method.json").touch()
    (store.folder(older.key) / "fit.json").touch()
    ends = _Ends(End("over"), _answer)
    rows = execute(prepare(order, store), executor=ends)
    assert [row.cell.needs for row in rows] == [{"other": older.key}]
    assert store.look(cell) == "stale", "under the present version it is another question"
    assert store.look(cell, any_version=True) == "failed"


def test_a_version_that_changed_since_the_plan_is_refused(bench_order, store):
    prepared = prepare(bench_order("good"), store)
    (job,) = prepared.plan.todo
    row = run_cell(replace(job.cell, versions={"method": 0}), Surroundings(store=store))
    assert row.status == "failed"
    assert (
        row.reason
        == "the version of habit or of its axes changed on disk since the plan was made; plan again"
    )


def test_a_fit_that_reports_progress_is_timed_by_its_own_pace():
    state = {"phase": "fit", "total": 10, "took": 20.0, "at": time.monotonic()}
    some, little = {**state, "done": 2, "came": 2}, {**state, "done": 0.5, "came": 0.5}
    assert remaining(some, predicted=5.0, elapsed=25.0) == pytest.approx(80, abs=1)
    assert remaining(little, predicted=30.0, elapsed=25.0) == pytest.approx(5.0)
    assert remaining({}, predicted=5.0, elapsed=2.0) == pytest.approx(3.0)


def test_a_fit_that_goes_on_from_a_checkpoint_is_timed_by_what_it_did_itself(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("bench.execution.status.time.monotonic", lambda: clock[0])
    status = Status(tmp_path / "status.json")
    status.enter("fit")
    for epoch in (17, 18):  # of 20; sixteen were done before, each takes 50 s
        clock[0] += 50
        status._last = 0.0
        status.report(epoch, 20)
    left = remaining(read_status(status.path), predicted=500.0, elapsed=100.0)
    assert left == pytest.approx(100)
