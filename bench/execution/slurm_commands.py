"""The four commands of Slurm that are used: sbatch, squeue, scancel, and nothing that needs accounting."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.errors import Unavailable

SECONDS = 60.0  # the longest wait for an answer
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}
)
ALIVE = WAITING | {"RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"}
GOING = ALIVE | {"COMPLETING", "STAGE_OUT"}  # what is not at its end yet
FIELDS = "JobID:24,Name:40,State:24,RestartCnt:8,exit_code:16,TimeUsed:24,Reason:80"
# what sbatch says when the cluster cannot take a job now but may later
PASSING = (
    "unable to contact", "connect failure", "connection refused", "connection reset", "timed out",
    "zero bytes", "temporarily unable", "temporarily unavailable", "try again", "submit limit",
    "job violates accounting/qos policy", "communication", "slurm_load", "connection failure",
)  # fmt: skip


class NotNow(Exception):
    """The cluster does not answer, or takes no job at present."""


@dataclass(frozen=True)
class State:
    """What squeue says of a job.

    Attributes:
        job_name: the name that it was submitted under.
        name: of the state: ``PENDING``, ``RUNNING``, ``COMPLETED``, ``NODE_FAIL`` ...
        restarts: how often Slurm has put it back into the queue.
        code: exit code, negative for a signal.
        seconds: how long it has run.
        reason: why it waits or ended, in Slurm's word.
    """

    job_name: str
    name: str
    restarts: int
    code: int
    seconds: float
    reason: str


def submit(options: Sequence[str], script: str, *, test: bool = False) -> str:
    """Hand a script to sbatch; returns the job's id.

    Args:
        options: of sbatch.
        script: its text; sbatch reads it from its standard input, so no file is left.
        test: only ask whether such a job could run.

    Raises:
        NotNow: the cluster may take it later.
        Unavailable: it never will as asked.
    """
    words = ["sbatch", "--parsable", *(["--test-only"] if test else []), *options]
    done = _run(words, script)
    if done.returncode:
        said = _said(done.stderr)
        if any(word in done.stderr.lower() for word in PASSING):
            raise NotNow(said)
        raise Unavailable(f"--executor slurm: {said}; change --slurm to what the cluster offers")
    return done.stdout.strip().partition(";")[0]


def look(name: str | None = None) -> dict[str, State]:
    """My jobs by id, those that ended in the last minutes too.

    Args:
        name: only jobs of this name.

    Raises:
        NotNow: the cluster does not answer.
    """
    words = ["squeue", "--noheader", "--states=all", f"--user={os.getuid()}", "-O", FIELDS]
    done = _run([*words, *([f"--name={name}"] if name else [])])
    if done.returncode:
        raise NotNow(_said(done.stderr))
    return dict(_read(line) for line in done.stdout.splitlines() if line.strip())


def cancel(jobs: Iterable[str]) -> None:
    """End jobs; those that have ended already are passed over.

    Raises:
        NotNow: the cluster does not answer.
    """
    if words := list(jobs):
        done = _run(["scancel", *words])
        if done.returncode and "invalid job id" not in done.stderr.lower():
            raise NotNow(_said(done.stderr))


def _read(line: str) -> tuple[str, State]:
    job, line = line[:24].strip(), line[24:]
    job_name, line = line[:40].strip(), line[40:]
    name, restarts, code, used, *reason = line.split()
    # wait status: exit code in the high byte, signal in the low one
    status = int(code) if code.isdecimal() else 0
    signal, value = status & 127, status >> 8
    told = -signal or value
    return job, State(job_name, name, int(restarts), told, _seconds(used), " ".join(reason))


def _seconds(used: str) -> float:
    """Seconds of ``days-hours:minutes:seconds``; 0 for INVALID."""
    days, _, clock = used.rpartition("-")
    try:
        parts = [int(part) for part in clock.split(":")]
    except ValueError:
        return 0.0
    total = 0
    for part in parts:
        total = 60 * total + part
    return float(total + 86400 * int(days or 0))


def _run(words: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    # inside a job of its own the runner must not hand that job's settings on
    kept = ("SLURM_CONF", "SLURM_TIME_FORMAT")
    here = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k in kept}
    try:
        return subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=SECONDS, env=here
        )
    except FileNotFoundError as fault:
        raise Unavailable(
            f"--executor slurm: {words[0]} was not found; run it on a node of the cluster, "
            "or leave it out"
        ) from fault
    except subprocess.TimeoutExpired as fault:
        raise NotNow(f"{words[0]} gave no answer in {SECONDS:.0f} s") from fault


def _said(text: str) -> str:
    """The complaints of a command in one line."""
    lines = (line.strip().partition("error: ")[2] or line.strip() for line in text.splitlines())
    return "; ".join(filter(None, lines))[:300] or "no word of why"
