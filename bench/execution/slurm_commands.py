"""The commands of Slurm that are used: sbatch, squeue, scancel, and sacct where there are accounts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from bench.errors import Unavailable

SECONDS = 60.0  # the longest wait for an answer
RECALL_SECONDS = 10.0  # of sacct, without which a run goes on
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}
)
ALIVE = WAITING | {"RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"}
GOING = ALIVE | {"COMPLETING", "STAGE_OUT"}  # what is not at its end yet
FIELDS = {
    "JobID": 24,
    "Name": 40,
    "State": 24,
    "RestartCnt": 8,
    "exit_code": 16,
    "TimeUsed": 24,
    "Reason": 80,
}  # of squeue, with their widths in bytes
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
    """What squeue or sacct says of a job.

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
        if any(word in _text(done.stderr).lower() for word in PASSING):
            raise NotNow(said)
        raise Unavailable(f"--executor slurm: {said}; change --slurm to what the cluster offers")
    return _text(done.stdout).strip().partition(";")[0]


def look(name: str | None = None) -> dict[str, State]:
    """My jobs by id, those that ended in the last minutes too.

    Args:
        name: only jobs of this name.

    Raises:
        NotNow: the cluster does not answer.
    """
    words = ["squeue", "--noheader", "--states=all", f"--user={os.getuid()}"]
    fields = ",".join(f"{field}:{width}" for field, width in FIELDS.items())
    done = _run([*words, "-O", fields, *([f"--name={name}"] if name else [])])
    if done.returncode:
        raise NotNow(_said(done.stderr))
    found = map(_read, done.stdout.split(b"\n"))
    return {job: state for job, state in found if state.name}


def recall(jobs: Mapping[str, str]) -> dict[str, State]:
    """How jobs ended that squeue has forgotten; those that no account shows at an end are not named.

    Args:
        jobs: names by id.

    Raises:
        NotNow: there is no sacct, it is slow, or the cluster keeps no accounts.
    """
    words = ["sacct", "--noheader", "--parsable2", f"--jobs={','.join(jobs)}"]
    try:
        done = _run([*words, "--format=JobIDRaw,JobName,State,ExitCode"], seconds=RECALL_SECONDS)
    except Unavailable as fault:
        raise NotNow(str(fault)) from fault
    if done.returncode:
        raise NotNow(_said(done.stderr))
    lines = [line.split("|") for line in _text(done.stdout).split("\n") if line.count("|") == 3]
    names = {job: told.partition(" ")[0] for job, _, told, _ in lines}  # of "CANCELLED by 0"
    found = {}
    for job, job_name, _, code in lines:
        if jobs.get(job) == job_name and names[job] not in {"", *GOING}:
            # the batch step may have run out of memory where the job only says that it failed
            starved = names.get(f"{job}.batch") == "OUT_OF_MEMORY"
            name = "OUT_OF_MEMORY" if starved else names[job]
            found[job] = State(job_name, name, 0, _code(code), 0.0, "")
    return found


def cancel(jobs: Iterable[str]) -> None:
    """End jobs; those that have ended already are passed over.

    Raises:
        NotNow: the cluster does not answer.
    """
    if words := list(jobs):
        done = _run(["scancel", *words])
        if done.returncode and b"invalid job id" not in done.stderr.lower():
            raise NotNow(_said(done.stderr))


def _read(line: bytes) -> tuple[str, State]:
    """A line of squeue; its state has no name where a line break in the job's name cuts it short."""
    ends = list(accumulate(FIELDS.values(), initial=0))
    columns = (_text(line[start:end]).strip() for start, end in pairwise(ends))
    job, job_name, name, restarts, code, used, reason = columns
    # wait status: exit code in the high byte, signal in the low one
    status = _whole(code)
    told = -(status & 127) or status >> 8
    return job, State(job_name, name, _whole(restarts), told, _seconds(used), reason)


def _whole(told: str) -> int:
    return int(told) if told.isdecimal() else 0


def _code(told: str) -> int:
    """The exit code of ``code:signal``, negative for a signal."""
    code, _, signal = told.partition(":")
    return -_whole(signal) or _whole(code)


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


def _run(
    words: Sequence[str], text: str = "", seconds: float = SECONDS
) -> subprocess.CompletedProcess[bytes]:
    # inside a job of its own the runner must not hand that job's settings on
    kept = ("SLURM_CONF", "SLURM_TIME_FORMAT")
    here = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k in kept}
    try:
        return subprocess.run(
            words, input=os.fsencode(text), capture_output=True, timeout=seconds, env=here
        )
    except FileNotFoundError as fault:
        raise Unavailable(
            f"--executor slurm: {words[0]} was not found; run it on a node of the cluster, "
            "or leave it out"
        ) from fault
    except subprocess.TimeoutExpired as fault:
        raise NotNow(f"{words[0]} gave no answer in {seconds:.0f} s") from fault


def _text(said: bytes) -> str:
    """What was printed; names of other jobs may be in any encoding."""
    return said.decode("utf-8", "replace")


def _said(complaints: bytes) -> str:
    """The complaints of a command in one line."""
    lines = _text(complaints).splitlines()
    said = (line.strip().partition("error: ")[2] or line.strip() for line in lines)
    return "; ".join(filter(None, said))[:300] or "no word of why"
