"""Inject every fault that the suite is tested against, and print what came of each as a Markdown table.

    python -m speed.faults [-k WORDS]

The tests that inject a fault note it, with the rows that were lost or doubled as they counted them; this runs
these tests and prints their notes. A fault that a test found mishandled has no line: the exit code is then 1
and the test is named. Why a fault cannot be injected on this machine is said in a line at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = (
    "test_damage.py",
    "test_made_folders.py",
    "test_kill_points.py",
    "test_clock.py",
    "test_storage.py",
    "test_death.py",
    "test_schedule.py",
    "test_slurm.py",
    "test_slurm_jobs.py",
)
HEAD = ("injected", "survived", "rows lost", "rows twice", "message", "healed", "command")


def main() -> None:
    """Run the tests and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "-k", dest="words", default="", help="only tests whose names match, as in pytest"
    )
    words = parser.parse_args().words
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "faults.jsonl")
        files = [f"tests/bench/{name}" for name in TESTS]
        chosen = ["-k", words] if words else []
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rs", *chosen, *files],
            env={**os.environ, "BENCH_FAULTS": str(notes)},
            capture_output=True,
            text=True,
        )
        lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    faults = [json.loads(line) for line in lines]
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for fault in faults:
        print(f"| {' | '.join(map(_cell, fault))} |")
    lost, twice = (sum(fault[place] for fault in faults) for place in (2, 3))
    print(f"\n{len(faults)} faults injected, {lost} rows lost, {twice} rows twice")
    told = done.stdout.splitlines()
    for reason in sorted({line.partition(": ")[2] for line in told if line.startswith("SKIPPED")}):
        print(f"left out: {reason}", file=sys.stderr)
    if done.returncode:
        print("\n".join(told[-20:]), file=sys.stderr)
    sys.exit(1 if done.returncode else 0)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value).replace("|", r"\|")
    return text if len(text) <= 160 else f"...{text[-157:]}"


if __name__ == "__main__":
    main()
