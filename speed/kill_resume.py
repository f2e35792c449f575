"""Kill a smoke run at random instants, resume it each time, and hold the outcome against an undisturbed run.

    python -m speed.kill_resume [--kills 10] [--seed 0]

Every kill is SIGKILL to the runner and all its children. After each every row on disk must be readable and
agree with its packed positions. The last line is one JSON object; ``identical`` is what matters.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.results.packed import Packed
from bench.results.row_files import read_row

SUITE = ["run", "--suite", "smoke", "--scale", "embedded"]


def main() -> None:
    """Run the trial and print its outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, rough = Path(folder, "calm"), Path(folder, "rough")
        start = time.monotonic()
        assert _start(calm).wait() == 0, "the undisturbed run failed"
        whole = time.monotonic() - start
        print(f"undisturbed: {whole:.1f} s, {len(_answers(calm))} rows", flush=True)
        landed = 0
        for number in range(options.kills):
            runner = _start(rough)
            moment = chance.uniform(0.05, 0.95) * whole
            try:
                runner.wait(moment)
            except subprocess.TimeoutExpired:
                landed += 1
            _kill(runner)
            print(
                f"kill {number + 1} after {moment:.1f} s: {len(_answers(rough))} rows whole",
                flush=True,
            )
            if len(_answers(rough)) == len(_answers(calm)):
                _forget_last(
                    rough
                )  # all done: take a row away so that the next kill has work to hit
        assert _start(rough).wait() == 0, "the resumed run failed"
        same = _answers(calm) == _answers(rough)
    print(json.dumps({"kills": options.kills, "while_running": landed, "identical": same}))
    sys.exit(0 if same else 1)


def _start(home: Path) -> subprocess.Popen[bytes]:
    words = [*SUITE, "--out", str(home / "out"), "--store", str(home / "run")]
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *words],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill(runner: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(runner.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    runner.wait()
    time.sleep(1.5)  # cells notice within a second that their runner is gone


def _answers(home: Path) -> dict[str, tuple[object, ...]]:
    """Status and positions by label; raises if any row is not whole."""
    found = {}
    for path in sorted((home / "out" / "rows").rglob("*.json")):
        row, packed = read_row(path), Packed.load(path.with_suffix(".npz"))
        exams = (packed.title, packed.item, packed.valid)
        positions = [exam.position_Q.tobytes() for exam in exams if exam is not None]
        found[row.cell.label] = (row.status, positions)
    return found


def _forget_last(home: Path) -> None:
    path = max((home / "out" / "rows").rglob("*.json"), key=lambda p: p.stat().st_mtime)
    for cell in (home / "run" / "cells" / read_row(path).cell.key).rglob("*"):
        if cell.is_file():
            cell.unlink()
    path.unlink()


if __name__ == "__main__":
    main()
