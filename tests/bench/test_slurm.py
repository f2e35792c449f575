"""Cells as Slurm jobs, on a real cluster of one node without accounting; see ``slurm_cluster.py``."""

import json
import os
import signal

import psutil
import pytest
from _habits import start, wait_for
from _in_process import counted
from _on_slurm import ON_SLURM, habits, once, run
from _slurm_conf import CONF
from slurm_cluster import CannotStart, Cluster, missing

from bench.api import default_store, execute, prepare
from bench.board.write import write_board
from bench.errors import ConfigError, Unavailable
from bench.execution import slurm
from bench.execution.slurm import SlurmExecutor
from bench.execution.slurm_commands import look
from bench.execution.slurm_words import read_words


def test_the_board_of_a_run_on_slurm_is_the_board_of_a_run_here(cluster, bench_order, tmp_path):
    order = bench_order("good", "needs", "raises", "unavailable", "needs a failure")
    there, here = (default_store(tmp_path / n / "out", tmp_path / n / "run") for n in "ab")
    run(order, there)
    execute(prepare(order, here))
    assert not (there.root / "slurm").exists(), "nothing of the jobs is left"
    _give_the_times_of(here.rows, there.rows)
    boards = [_board(store) for store in (there, here)]
    assert {".json", ".npz", ".md", ".csv", ".tex", ".html"} <= {path.suffix for path in boards[0]}
    assert boards[0].keys() == boards[1].keys()
    assert [path for path in boards[0] if boards[0][path] != boards[1][path]] == []


MEASURED = {"date", "wall_seconds", "predicted_seconds", "disk_bytes"}


def _give_the_times_of(here, there):
    """Put what was measured here into the rows from there, so that all else can be compared."""
    for path in here.rglob("*.json"):
        goal = there / path.relative_to(here)
        row, measured = (json.loads(p.read_text()) for p in (goal, path))
        row["cost"] = measured["cost"]
        for name in MEASURED & measured["provenance"].keys():
            row["provenance"][name] = measured["provenance"][name]
        for name in {"upstream", "upstream_seconds"} & measured["facts"].keys():
            row["facts"][name] = measured["facts"][name]
        for file, content in ((goal, row), (path, measured)):
            del content["sha256"]  # of the row with its own times
            file.write_text(json.dumps(content, sort_keys=True))


def _board(store):
    """Every file of rows and tables."""
    out = store.rows.parent
    write_board(store.rows, out)
    files = (path for path in out.rglob("*") if path.is_file())
    return {
        path.relative_to(out): path.read_bytes() for path in files if ".cache" not in path.parts
    }


@pytest.mark.parametrize("code", [0, 75])
def test_an_exit_code_of_a_plugin_means_nothing_in_a_job_either(
    cluster, bench_order, store, tmp_path, code, monkeypatch, tell
):
    monkeypatch.setattr(slurm, "SETTLE_SECONDS", 0.5)
    (row,) = run(bench_order(f"exits, code: {code}"), store)
    assert (row.status, habits(tmp_path)) == ("failed", ["fit", "fit"])
    how = "ended without a word" if code == 0 else "ended with exit code 75"
    assert row.reason.endswith(f"{how} 2 times")
    tell(
        f"{cluster}: a plugin that ends its job with code {code}",
        True,
        *counted(store, 1),
        row.reason,
        False,
    )


def test_a_job_waits_for_a_drained_node_and_says_so(cluster, bench_order, store, tell):
    node = cluster.ask("sinfo", "-h", "-o", "%n").strip()
    cluster.ask("scontrol", "update", f"node={node}", "state=drain", "reason=test")
    seen = []

    def undrain(handle):
        seen.append((handle.started, handle.note))
        if "DRAINED" in handle.note:
            cluster.ask("scontrol", "update", f"node={node}", "state=resume")

    (row,) = run(bench_order("good"), store, undrain)
    assert row.status == "done"
    assert any("DRAINED" in note and started is None for started, note in seen)
    tell(
        f"{cluster}: a drained node",
        True,
        *counted(store, 1),
        next(n for _, n in seen if "DRAINED" in n),
        False,
    )


def test_a_job_on_a_node_that_goes_down_is_put_back(
    cluster, bench_order, store, tmp_path, new_jobs, tell
):
    node = cluster.ask("sinfo", "-h", "-o", "%n").strip()

    def down_and_up(job):
        cluster.ask("scontrol", "update", f"node={node}", "state=down", "reason=test")
        cluster.ask("scontrol", "update", f"node={node}", "state=resume")

    act, done = once(tmp_path, down_and_up)
    (row,) = run(bench_order("waits"), store, act)
    assert (row.status, row.facts["attempts"]) == ("done", 2)
    assert new_jobs()[done[0]].restarts == 1
    tell(f"{cluster}: the node of a job goes down", True, *counted(store, 1), "", True)


def test_a_controller_that_is_gone_for_a_while_is_waited_for(
    cluster, bench_order, store, tmp_path, new_jobs, tell
):
    def restart(job):
        # killed outright it forgets what it has not saved, and then puts running jobs back
        cluster.kill("slurmctld", signal.SIGTERM)
        cluster.spawn("slurmctld")

    act, done = once(tmp_path, restart, starts=1)
    (row,) = run(bench_order("waits"), store, act)
    assert (row.status, row.facts["attempts"]) == ("done", 1)
    assert list(new_jobs()) == done
    tell(f"{cluster}: the controller is gone for a while", True, *counted(store, 1), "", False)


@pytest.mark.parametrize("waits", [True, False], ids=["pending", "running"])
def test_the_jobs_of_a_killed_runner_are_found_again(
    cluster, bench_order, store, tmp_path, new_jobs, waits, tell
):
    order = bench_order("waits")
    if waits:
        cluster.ask("sbatch", "-J", "other", "-c4", "-o", "/dev/null", "--wrap", "sleep 60")
    runner = start(order, store, tmp_path, *ON_SLURM)
    wait_for(
        lambda: "bench" in cluster.ask("squeue", "-h", "-o", "%j") if waits else habits(tmp_path)
    )
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    cluster.ask("scancel", "--name=other")
    (row,) = run(order, store, lambda handle: (tmp_path / "go").touch())
    assert (row.status, row.facts["attempts"]) == ("done", 1)
    assert len(new_jobs()) == (2 if waits else 1)
    assert habits(tmp_path) == ["fit", "recommend", "recommend"]
    assert not (store.root / "slurm").exists()
    state = "pending" if waits else "running"
    tell(f"{cluster}: SIGKILL to a runner, its job {state}", True, *counted(store, 1), "", True)


def test_an_interrupt_cancels_the_jobs_says_so_and_can_be_resumed(
    cluster, bench_order, store, tmp_path, new_jobs, tell
):
    order = bench_order("waits", "good")
    runner = start(order, store, tmp_path, *ON_SLURM)
    wait_for(lambda: "recommend" in habits(tmp_path) and habits(tmp_path).count("fit") == 2)
    wait_for(lambda: len(list(store.rows.rglob("*.json"))) == 1)
    os.kill(runner.pid, signal.SIGINT)
    assert runner.wait(timeout=60) == 130
    said = runner.said.read_text()
    assert "cancelled 1 Slurm job(s)" in said or "cancelled 2 Slurm job(s)" in said
    assert "run the same command again to go on where it was" in said
    assert not (store.root / "slurm").exists()
    (tmp_path / "go").touch()
    (row,) = run(order, store)
    assert (row.status, row.facts["attempts"]) == ("done", 2)
    cancelled = next(line for line in said.splitlines() if line.startswith("cancelled"))
    tell(f"{cluster}: SIGINT to a runner", True, *counted(store, 2), cancelled, True)


def test_what_a_killed_runner_left_of_a_finished_job_is_removed(
    cluster, bench_order, store, tmp_path, tell
):
    order = bench_order("waits")
    runner = start(order, store, tmp_path, *ON_SLURM)
    wait_for(lambda: habits(tmp_path))
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    (tmp_path / "go").touch()
    cluster.wait(lambda: not cluster.ask("squeue", "-h"), "the job does not end")
    assert len(list((store.root / "slurm").iterdir())) == 1
    assert run(order, store) == [], "its row is there"
    assert not (store.root / "slurm").exists()
    tell(
        f"{cluster}: SIGKILL to a runner, then its job finishes", True, *counted(store, 1), "", True
    )


def test_a_job_that_cannot_be_launched_is_not_waited_for(
    cluster, bench_order, store, new_jobs, tell
):
    node = cluster.ask("sinfo", "-h", "-o", "%n").strip()
    (cluster.folder / "prolog-fails").touch()

    def repair(handle):
        if "DRAINED" in handle.note:
            (cluster.folder / "prolog-fails").unlink(missing_ok=True)
            cluster.ask("scontrol", "update", f"node={node}", "state=resume")

    (row,) = run(bench_order("good"), store, repair)
    assert (row.status, row.facts["attempts"]) == ("done", 1)
    assert [state.name for state in new_jobs().values()].count("CANCELLED") >= 1
    tell(f"{cluster}: a node that launches no job", True, *counted(store, 1), "", True)


def test_two_runners_submit_a_cell_once(cluster, bench_order, store, tmp_path, new_jobs, tell):
    runners = [start(bench_order("waits"), store, tmp_path, *ON_SLURM) for _ in range(2)]
    wait_for(lambda: all("1 of 1 cells" in r.said.read_text() for r in runners))
    wait_for(lambda: habits(tmp_path))
    (tmp_path / "go").touch()
    assert [runner.wait(timeout=60) for runner in runners] == [0, 0]
    assert len(new_jobs()) == 1
    tell(f"{cluster}: two runners on one store", True, *counted(store, 1), "", False)


def test_jobs_of_other_names_in_the_queue_are_no_hindrance(cluster, bench_order, store):
    for name in ("naïve 文字", "two\nlines", "\udcff"):
        cluster.ask("sbatch", "-J", name, "-o", "/dev/null", "--wrap", "sleep 60")
    (row,) = run(bench_order("good"), store)
    assert row.status == "done"
    seen = {state.job_name: state for state in look().values()}
    assert seen["naïve 文字"].name in ("RUNNING", "PENDING")


def test_what_the_cluster_does_not_offer_is_one_line(cluster, bench_order, store):
    with pytest.raises(Unavailable, match=r"nowhere.*; change --slurm to what the cluster offers"):
        run(bench_order("good"), store, words="partition=nowhere")
    assert not (store.root / "slurm").exists()


def test_a_cluster_that_cannot_start_says_why_and_leaves_no_daemon(tmp_path, monkeypatch):
    if lacks := missing():
        pytest.skip(lacks)
    monkeypatch.setenv("SLURM_CONF", "restored at the end")
    monkeypatch.setattr("slurm_cluster.CONF", CONF.replace("cons_tres", "nothing"))
    with pytest.raises(CannotStart, match=r"^slurmctld ended at once: .*select/nothing"):
        Cluster(tmp_path).start()
    at_work = (p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"]))
    assert [words for words in at_work if str(tmp_path) in " ".join(words)] == []


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
