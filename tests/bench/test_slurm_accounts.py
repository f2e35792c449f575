"""What sacct says of jobs that squeue has forgotten; the first six are what Slurm 22.05 printed."""

from types import SimpleNamespace

import pytest

from bench.execution import slurm_commands
from bench.execution.slurm import SlurmHandle
from bench.execution.slurm_commands import NotNow, State, recall

OOM, KILLED = "raise mem= of --slurm", "probably out of memory"
TIME = "raise time= of --slurm"
STARVED = "7.batch|batch|OUT_OF_MEMORY|0:125"
ENDS = [
    (["7|ours|FAILED|3:0", "7.batch|batch|FAILED|3:0"], "died", "ended with exit code 3", ""),
    (["7|ours|FAILED|0:9", "7.batch|batch|CANCELLED|0:9"], "died", "ended with signal 9", KILLED),
    (["7|ours|CANCELLED by 0|0:0", "7.batch|batch|CANCELLED|0:15"], "died", "was cancelled", ""),
    (["7|ours|PREEMPTED|0:0", "7.batch|batch|CANCELLED|0:15"], "lost", "ended as PREEMPTED", ""),
    (["7|ours|NODE_FAIL|0:0", "7.batch|batch|CANCELLED|"], "lost", "ended as NODE_FAIL", ""),
    (["7|ours|TIMEOUT|0:0", "7.batch|batch|CANCELLED|0:15"], "died", "ended as TIMEOUT", TIME),
    (["7|ours|OUT_OF_MEMORY|0:125", STARVED], "died", "ended as OUT_OF_MEMORY", OOM),
    (["7|ours|FAILED|1:0", STARVED], "died", "ended as OUT_OF_MEMORY", OOM),
    (["7|ours|DEADLINE|1:0"], "died", "ended as DEADLINE", ""),
]  # fmt: skip
UNKNOWN = [
    "", "7|ours|RUNNING|0:0", "7|ours|PENDING|0:0", "7|ours|REQUEUED|0:0", "7|another|FAILED|1:0",
    "70|ours|FAILED|1:0", "7|ours|FAILED", "7|ours||", "\udcff|\udcff|\udcff|\udcff",
]  # fmt: skip


@pytest.fixture
def sacct(tmp_path, monkeypatch):
    """Install a sacct that prints what it is given."""

    def install(printed="", code=0, then=":"):
        (tmp_path / "printed").write_bytes(printed.encode("utf-8", "surrogateescape"))
        program = tmp_path / "sacct"
        program.write_text(f"#!/bin/sh\n/bin/cat {tmp_path}/printed\n{then}\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


@pytest.mark.parametrize(("lines", "kind", "how", "hint"), ENDS, ids=[end[0][0] for end in ENDS])
def test_every_end_is_told_from_the_accounts(sacct, store, lines, kind, how, hint):
    sacct("\n".join(lines) + "\n")
    (state,) = recall({"7": "ours", "8": "ours too"}).values()
    handle = SlurmHandle(None, SimpleNamespace(store=store), "7", None, None)
    end = handle._ended(state)
    assert (end.kind, end.how, end.hint) == (kind, f"job 7 {how}", hint)


def test_a_job_that_completed_is_left_to_its_row(sacct):
    sacct("7|ours|COMPLETED|0:0\n7.batch|batch|COMPLETED|0:0\n")
    assert recall({"7": "ours"}) == {"7": State("ours", "COMPLETED", 0, 0, 0.0, "")}


@pytest.mark.parametrize("line", UNKNOWN, ids=ascii)
def test_no_end_is_made_up(sacct, line):
    sacct(f"{line}\n")
    assert recall({"7": "ours"}) == {}


def test_accounts_that_are_absent_broken_or_slow_are_not_there_now(sacct, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotNow, match="sacct was not found"):
        recall({"7": "ours"})
    sacct(code=1, then="echo 'sacct: error: Problem talking to the database' >&2")
    with pytest.raises(NotNow, match=r"^Problem talking to the database$"):
        recall({"7": "ours"})
    monkeypatch.setattr(slurm_commands, "RECALL_SECONDS", 0.2)
    sacct(then="exec /bin/sleep 60")
    with pytest.raises(NotNow, match=r"sacct gave no answer in"):
        recall({"7": "ours"})
