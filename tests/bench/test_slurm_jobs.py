"""Jobs that finish, die, are cancelled or pre-empted, on a cluster without accounting and on one with it."""

import pytest
from _in_process import counted
from _on_slurm import habits, once, run

from bench.execution import schedule, slurm
from bench.execution.slurm_commands import look

pytestmark = pytest.mark.parametrize(
    "running_cluster", ["without accounting", "with accounting"], indirect=True
)


def test_a_job_that_finishes_leaves_a_row_and_nothing_else(cluster, bench_order, store, new_jobs):
    (row,) = run(bench_order("good"), store)
    assert (row.status, row.facts["attempts"]) == ("done", 1)
    assert len(new_jobs()) == 1
    assert not (store.root / "slurm").exists(), "nothing of the job is left"


def test_a_job_that_is_killed_is_tried_again_and_then_failed(
    cluster, bench_order, store, tmp_path, tell
):
    (row,) = run(bench_order("dies"), store)
    assert row.status == "failed"
    assert row.reason.startswith("job ")
    assert row.reason.endswith("ended with signal 9 2 times; probably out of memory")
    assert habits(tmp_path) == ["fit", "fit"]
    tell(
        f"{cluster}: SIGKILL in each of a cell's jobs", True, *counted(store, 1), row.reason, False
    )


def test_a_cancelled_job_is_submitted_once_more(
    cluster, bench_order, store, tmp_path, new_jobs, tell
):
    act, done = once(tmp_path, lambda job: cluster.ask("scancel", job))
    (row,) = run(bench_order("waits"), store, act)
    assert (row.status, row.facts["attempts"]) == ("done", 2)
    assert {job: state.name for job, state in new_jobs().items()}[done[0]] == "CANCELLED"
    assert len(new_jobs()) == 2
    tell(f"{cluster}: a running job is cancelled", True, *counted(store, 1), "", True)


def test_a_preempted_job_is_put_back_and_ends_well(
    cluster, bench_order, store, tmp_path, new_jobs, tell
):
    def take_the_node(job):
        cluster.ask("sbatch", "-p", "urgent", "-c4", "-o", "/dev/null", "--wrap", "sleep 1")

    act, done = once(tmp_path, take_the_node)
    (row,) = run(bench_order("waits"), store, act)
    assert (row.status, row.facts["attempts"]) == ("done", 2)
    assert len(new_jobs()) == 2, "ours and the urgent one"
    assert new_jobs()[done[0]].restarts == 1
    tell(f"{cluster}: a running job is pre-empted", True, *counted(store, 1), "", True)


@pytest.fixture
def forgetful(cluster):
    """The cluster, whose squeue forgets a job two seconds after its end."""
    cluster.configure(forget=2)
    cluster.ask("scontrol", "reconfigure")
    yield cluster
    cluster.configure()
    cluster.ask("scontrol", "reconfigure")


def test_the_accounts_know_how_a_job_ended_that_squeue_has_forgotten(
    forgetful, bench_order, store, monkeypatch, tell
):
    monkeypatch.setattr(slurm, "SETTLE_SECONDS", 0.5)
    monkeypatch.setitem(schedule.MOST, "died", 1)

    def come_late(handle):
        forgetful.wait(lambda: handle.job not in look(), "the job is not forgotten", seconds=120)

    (row,) = run(bench_order("dies"), store, come_late)
    known = "with signal 9; probably out of memory"
    how = known if forgetful.accounting else "without a word"
    assert (row.status, row.reason.partition(" ended ")[2]) == ("failed", how)
    tell(
        f"{forgetful}: squeue has forgotten a dead job", True, *counted(store, 1), row.reason, False
    )
