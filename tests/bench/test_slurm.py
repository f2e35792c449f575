"""Cells as Slurm jobs, on a real cluster of one node without accounting; see ``slurm_cluster.py``."""

import json
import os
import signal
import subprocess
import time

import pytest
from _habits import start, wait_for
from slurm_cluster import Cluster, missing

from bench.api import default_store, execute, prepare
from bench.errors import ConfigError, Unavailable
from bench.execution import slurm
from bench.execution.slurm import SlurmExecutor
from bench.execution.slurm_commands import look
from bench.execution.slurm_words import read_words

JOB = "partition=debug,time=10,cpus=1"
ON_SLURM = ("--executor", "slurm", "--slurm", JOB)
on_a_cluster = pytest.mark.skipif(bool(missing()), reason=missing() or "a cluster can be started")


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(running_cluster, monkeypatch):
    """The cluster, with no job of an earlier test and its node in use; squeue is asked often."""
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.2)
    yield running_cluster
    running_cluster.ask("scancel", "--user=root")
    running_cluster.wait(lambda: not running_cluster.ask("squeue", "-h"), "jobs are left")


def _run(order, store, act=lambda handle: None, words=JOB):
    """Run an order on the cluster; ``act`` is called with every job, again and again."""

    end = time.monotonic() + 90

    def notify(progress):
        assert time.monotonic() < end, [(h.job, h.note) for h in progress.running]
        for handle in progress.running:
            act(handle)
            if "BeginTime" in handle.note:  # Slurm lets a job wait two minutes that it put back
                subprocess.run(["scontrol", "update", f"jobid={handle.job}", "starttime=now"])

    executor = SlurmExecutor(read_words(words), store)
    return execute(prepare(order, store), notify=notify, executor=executor)


def _once(store, act):
    """Do something to the first job that has begun its fit."""
    done = []

    def when_it_fits(handle):
        status = store.folder(handle.cell.key) / "status.json"
        if not done and status.exists() and json.loads(status.read_text())["phase"] == "fit":
            done.append(handle.job)
            act(handle.job)

    return when_it_fits, done


def _words(tmp_path):
    log = tmp_path / "habits.log"
    return log.read_text().split() if log.exists() else []


@pytest.fixture
def new_jobs(cluster):
    """The jobs that came since the test began."""
    before = set(look())
    return lambda: {job: state for job, state in look().items() if job not in before}


@on_a_cluster
def test_a_run_on_slurm_leaves_the_rows_of_a_run_here(cluster, bench_order, tmp_path):
    order = bench_order("good", "needs", "raises", "unavailable", "needs a failure")
    there, here = (default_store(tmp_path / n / "out", tmp_path / n / "run") for n in "ab")
    _run(order, there)
    execute(prepare(order, here))
    files = [{p.relative_to(s.rows) for p in s.rows.rglob("*.*")} for s in (there, here)]
    assert files[0] == files[1]
    for path in files[0]:
        if path.suffix == ".json":
            assert _lasting(there.rows / path) == _lasting(here.rows / path)
        else:
            assert (there.rows / path).read_bytes() == (here.rows / path).read_bytes()
    assert not (there.root / "slurm").exists(), "nothing of the jobs is left"


def _lasting(path):
    """What a row says apart from time and place."""
    row = json.loads(path.read_text())
    row["facts"].pop("upstream", None), row["facts"].pop("upstream_seconds", None)
    return {name: value for name, value in row.items() if name not in {"cost", "provenance"}}


@on_a_cluster
def test_a_job_that_is_killed_is_tried_again_and_then_failed(cluster, bench_order, store, tmp_path):
    (row,) = _run(bench_order("dies"), store)
    assert row.status == "failed"
    assert row.reason.startswith("job ")
    assert row.reason.endswith("ended with signal 9 2 times; probably out of memory")
    assert _words(tmp_path) == ["fit", "fit"]


@on_a_cluster
@pytest.mark.parametrize("code", [0, 75])
def test_an_exit_code_of_a_plugin_means_nothing_in_a_job_either(
    cluster, bench_order, store, tmp_path, code, monkeypatch
):
    monkeypatch.setattr(slurm, "SETTLE_SECONDS", 0.5)
    (row,) = _run(bench_order(f"exits, code: {code}"), store)
    assert (row.status, _words(tmp_path)) == ("failed", ["fit", "fit"])
    how = "ended without a word" if code == 0 else "ended with exit code 75"
    assert row.reason.endswith(f"{how} 2 times")


@on_a_cluster
def test_a_cancelled_job_is_submitted_once_more(cluster, bench_order, store, new_jobs):
    act, done = _once(store, lambda job: cluster.ask("scancel", job))
    (row,) = _run(bench_order("slow"), store, act)
    assert (row.status, row.facts["attempts"]) == ("done", 2)
    assert {job: state.name for job, state in new_jobs().items()}[done[0]] == "CANCELLED"
    assert len(new_jobs()) == 2


@on_a_cluster
def test_a_preempted_job_goes_on_where_it_was(cluster, bench_order, store, new_jobs):
    def take_the_node(job):
        cluster.ask("sbatch", "-p", "urgent", "-c4", "-o", "/dev/null", "--wrap", "sleep 2")

    act, done = _once(store, take_the_node)
    (row,) = _run(bench_order("slow"), store, act)
    assert (row.status, row.facts["attempts"]) == ("done", 2)
    assert len(new_jobs()) == 2, "ours and the urgent one"
    assert new_jobs()[done[0]].restarts == 1


@on_a_cluster
def test_a_job_waits_for_a_drained_node_and_says_so(cluster, bench_order, store):
    node = cluster.ask("sinfo", "-h", "-o", "%n").strip()
    cluster.ask("scontrol", "update", f"node={node}", "state=drain", "reason=test")
    seen = []

    def undrain(handle):
        seen.append((handle.started, handle.note))
        if "DRAINED" in handle.note:
            cluster.ask("scontrol", "update", f"node={node}", "state=resume")

    (row,) = _run(bench_order("good"), store, undrain)
    assert row.status == "done"
    assert any("DRAINED" in note and started is None for started, note in seen)


@on_a_cluster
def test_a_job_on_a_node_that_goes_down_is_put_back(cluster, bench_order, store, new_jobs):
    node = cluster.ask("sinfo", "-h", "-o", "%n").strip()

    def down_and_up(job):
        cluster.ask("scontrol", "update", f"node={node}", "state=down", "reason=test")
        cluster.ask("scontrol", "update", f"node={node}", "state=resume")

    act, done = _once(store, down_and_up)
    (row,) = _run(bench_order("slow"), store, act)
    assert (row.status, row.facts["attempts"]) == ("done", 2)
    assert new_jobs()[done[0]].restarts == 1


@on_a_cluster
def test_a_controller_that_is_gone_for_a_while_is_waited_for(cluster, bench_order, store, new_jobs):
    def restart(job):
        # killed outright it forgets what it has not saved, and then puts running jobs back
        cluster.ask("scontrol", "shutdown", "slurmctld")
        cluster.wait(lambda: not (cluster.folder / "slurmctld.pid").exists(), "it goes on")
        cluster.kill("slurmctld")
        subprocess.run(["slurmctld", "-f", str(cluster.conf)], check=True)

    act, done = _once(store, restart)
    (row,) = _run(bench_order("slow"), store, act)
    assert (row.status, row.facts["attempts"]) == ("done", 1)
    assert list(new_jobs()) == done


@on_a_cluster
@pytest.mark.parametrize("waits", [True, False], ids=["pending", "running"])
def test_the_jobs_of_a_killed_runner_are_found_again(
    cluster, bench_order, store, tmp_path, new_jobs, waits
):
    order = bench_order("waits")
    if waits:
        cluster.ask("sbatch", "-J", "other", "-c4", "-o", "/dev/null", "--wrap", "sleep 60")
    runner = start(order, store, tmp_path, *ON_SLURM)
    wait_for(
        lambda: "bench" in cluster.ask("squeue", "-h", "-o", "%j") if waits else _words(tmp_path)
    )
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    cluster.ask("scancel", "--name=other")
    (row,) = _run(order, store, lambda handle: (tmp_path / "go").touch())
    assert (row.status, row.facts["attempts"]) == ("done", 1)
    assert len(new_jobs()) == (2 if waits else 1)
    assert _words(tmp_path) == ["fit", "recommend", "recommend"]
    assert not (store.root / "slurm").exists()


@on_a_cluster
def test_an_interrupt_cancels_the_jobs_says_so_and_can_be_resumed(
    cluster, bench_order, store, tmp_path, new_jobs
):
    order = bench_order("waits", "good")
    runner = start(order, store, tmp_path, *ON_SLURM)
    wait_for(lambda: "recommend" in _words(tmp_path) and _words(tmp_path).count("fit") == 2)
    wait_for(lambda: len(list(store.rows.rglob("*.json"))) == 1)
    os.kill(runner.pid, signal.SIGINT)
    assert runner.wait(timeout=60) == 130
    said = runner.said.read_text()
    assert "cancelled 1 Slurm job(s)" in said or "cancelled 2 Slurm job(s)" in said
    assert "run the same command again to go on where it was" in said
    assert not (store.root / "slurm").exists()
    (tmp_path / "go").touch()
    (row,) = _run(order, store)
    assert (row.status, row.facts["attempts"]) == ("done", 2)


@on_a_cluster
def test_what_a_killed_runner_left_of_a_finished_job_is_removed(
    cluster, bench_order, store, tmp_path
):
    order = bench_order("waits")
    runner = start(order, store, tmp_path, *ON_SLURM)
    wait_for(lambda: _words(tmp_path))
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    (tmp_path / "go").touch()
    cluster.wait(lambda: not cluster.ask("squeue", "-h"), "the job does not end")
    assert len(list((store.root / "slurm").iterdir())) == 1
    assert _run(order, store) == [], "its row is there"
    assert not (store.root / "slurm").exists()


@on_a_cluster
def test_a_job_that_cannot_be_launched_is_not_waited_for(cluster, bench_order, store, new_jobs):
    node = cluster.ask("sinfo", "-h", "-o", "%n").strip()
    (cluster.folder / "prolog-fails").touch()

    def repair(handle):
        if "DRAINED" in handle.note:
            (cluster.folder / "prolog-fails").unlink(missing_ok=True)
            cluster.ask("scontrol", "update", f"node={node}", "state=resume")

    (row,) = _run(bench_order("good"), store, repair)
    assert (row.status, row.facts["attempts"]) == ("done", 1)
    assert [state.name for state in new_jobs().values()].count("CANCELLED") >= 1


@on_a_cluster
def test_two_runners_submit_a_cell_once(cluster, bench_order, store, tmp_path, new_jobs):
    runners = [start(bench_order("waits"), store, tmp_path, *ON_SLURM) for _ in range(2)]
    wait_for(lambda: all("1 of 1 cells" in r.said.read_text() for r in runners))
    wait_for(lambda: _words(tmp_path))
    (tmp_path / "go").touch()
    assert [runner.wait(timeout=60) for runner in runners] == [0, 0]
    assert len(new_jobs()) == 1


@on_a_cluster
def test_what_the_cluster_does_not_offer_is_one_line(cluster, bench_order, store):
    with pytest.raises(Unavailable, match=r"nowhere.*; change --slurm to what the cluster offers"):
        _run(bench_order("good"), store, words="partition=nowhere")
    assert not (store.root / "slurm").exists()


def test_words_are_read_and_wrong_ones_refused():
    queue = read_words("partition=gpu, gpus=1,mem=32GB,at_once=3")
    assert (queue.device, queue.at_once) == ("cuda", 3)
    assert queue.options == [
        "--time=240", "--cpus-per-task=1", "--partition=gpu", "--gpus-per-node=1", "--mem=32GB",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="does not know 'queue=x'; it knows partition"):
        read_words("queue=x")
    for wrong in ("at_once=x", "at_once=0", "cpus=two", "time=0", "gpus=-1"):
        with pytest.raises(ConfigError, match=f"--slurm {wrong}: it must be a whole number from"):
            read_words(wrong)


def test_off_a_cluster_the_way_out_is_one_line(store, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        Unavailable, match=r"--executor slurm: squeue was not found; run it on a node"
    ):
        SlurmExecutor(read_words(""), store)
