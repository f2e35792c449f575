"""Cells as queued jobs: submitit's local queue runs what Slurm would."""

from types import SimpleNamespace

import pytest

from bench.api import Order, default_store, execute, prepare
from bench.errors import ConfigError, Unavailable
from bench.execution.slurm import LOST, SlurmExecutor, SlurmHandle, read_words
from bench.experiment.grid import Choice


def test_a_suite_runs_as_queued_jobs(tmp_path):
    store = default_store(tmp_path / "out", tmp_path / "run")
    choice = Choice(scale="embedded", methods=["markov", "popularity"])
    prepared = prepare(Order(suite="smoke", choice=choice), store)
    executor = SlurmExecutor(store.root, {"timeout_min": 5}, at_once=1, cluster="local")
    rows = execute(prepared, executor=executor)
    assert {row.cell.method: row.status for row in rows} == {"markov": "done", "popularity": "done"}
    assert executor.queued == 0


def test_words_are_read_and_wrong_ones_refused():
    queue = read_words("partition=gpu, gpus=1,mem=32GB,at_once=3")
    assert (queue.device, queue.at_once) == ("cuda", 3)
    assert queue.parameters == {
        "name": "bench",
        "timeout_min": 240,
        "cpus_per_task": 1,
        "slurm_partition": "gpu",
        "gpus_per_node": 1,
        "slurm_mem": "32GB",
    }
    with pytest.raises(ConfigError, match="does not know 'queue=x'; it knows partition"):
        read_words("queue=x")
    for wrong in ("at_once=x", "at_once=0", "cpus=two", "time=0", "gpus=-1"):
        with pytest.raises(ConfigError, match=f"--slurm {wrong}: it must be a whole number from"):
            read_words(wrong)


def test_off_a_cluster_the_way_out_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"--executor slurm: .*srun.* Run it on a node"):
        read_words("").executor(tmp_path)


def test_a_lost_job_names_its_end():
    fault = RuntimeError("Job not requeued\nslurmstepd: node n7 failed")
    job = SimpleNamespace(
        done=lambda: True, exception=lambda: fault, job_id="12", state="NODE_FAIL"
    )
    handle = SlurmHandle(None, job)
    assert handle.exit_code() == LOST
    assert handle.why == "job 12 lost (NODE_FAIL): slurmstepd: node n7 failed"
