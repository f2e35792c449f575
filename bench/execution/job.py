"""The body of a Slurm job: a cell comes in on standard input, its row goes to the store."""

from __future__ import annotations

import base64
import os
import pickle
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path

from bench.cell import Cell
from bench.disk.sealed import read_note, write_note
from bench.errors import DamagedError
from bench.execution.claimed import run_claimed
from bench.execution.process import End
from bench.execution.team import SOLO, Team
from bench.execution.work import Surroundings
from bench.results.store import Store

BODY = "from bench.execution.job import main; main()"


def script(cell: Cell, where: Surroundings) -> str:
    """The job script of a cell; the cell travels inside it, so no file of ours has to wait with the job."""
    parcel = base64.encodebytes(pickle.dumps((cell, where))).decode()
    return f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(BODY)} <<'END'\n{parcel}END\n"


def main() -> None:
    """Run the cell; how it ended is left beside the job's name unless the row says it."""
    cell, where = pickle.loads(base64.b64decode(sys.stdin.buffer.read()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
        where = replace(where, fresh=False)  # what the first start of this job fitted is new enough

    def say(end: End) -> None:
        if end.kind != "over":
            write_note(word_path(where.store, os.environ["SLURM_JOB_ID"]), asdict(end))

    team = None
    if where.ask.ranks > 1:
        gpus = (
            os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if where.device == "cuda" else []
        )
        team = Team.fork(cell, where, gpus, say)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0] if gpus else ""
    say(run_claimed(cell, where, team or SOLO))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # libraries leave threads behind that would hold the job open


def word_path(store: Store, job: str) -> Path:
    """Where a job says how it ended."""
    return store.root / "slurm" / f"{job}.json"


def take_word(store: Store, job: str) -> End | None:
    """What a job said of its end; the file is removed."""
    path = word_path(store, job)
    try:
        word = End(**read_note(path))
    except (OSError, DamagedError, TypeError):
        return None
    path.unlink(missing_ok=True)
    return word
