"""Cells as queued jobs: submitit's local queue runs what Slurm would."""

from types import SimpleNamespace

import pytest

from bench.api import Order, default_store, execute, prepare
from bench.errors import ConfigError
from bench.executors.slurm import LOST, SlurmExecutor, SlurmHandle
from bench.grid import Choice


def test_a_suite_runs_as_queued_jobs(tmp_path):
    store = default_store(tmp_path / "out", tmp_path / "run")
    choice = Choice(scale="embedded", methods=["markov", "popularity"])
    prepared = prepare(Order(suite="smoke", choice=choice), store)
    executor = SlurmExecutor(store.root, {"timeout_min": 5}, at_once=1, cluster="local")
    rows = execute(prepared, executor=executor)
    assert {row.cell.method: row.status for row in rows} == {"markov": "done", "popularity": "done"}
    assert executor.queued == 0


def test_words_are_read_and_wrong_ones_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not know 'queue=x'; it knows partition"):
        SlurmExecutor.from_words("queue=x", tmp_path)


def test_a_lost_job_names_its_end():
    fault = RuntimeError("Job not requeued\nslurmstepd: node n7 failed")
    job = SimpleNamespace(
        done=lambda: True, exception=lambda: fault, job_id="12", state="NODE_FAIL"
    )
    handle = SlurmHandle(None, job)
    assert handle.exit_code() == LOST
    assert handle.why == "job 12 lost (NODE_FAIL): slurmstepd: node n7 failed"
