"""Where a row comes from: date, commit, versions, machine. No paths, no host names, no user names."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections import Counter
from functools import cache
from typing import Any

from bench.registry import HOUSE
from bench.results.machine import gpu_names

PACKAGES = ("torch", "numpy", "pandas", "recbole", "transformers", "peft", "accelerate", "trl")


def now() -> str:
    """The time in UTC as rows write it, e.g. ``2025-01-31T07:00:00Z``."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def provenance(*, threads: int, device: str) -> dict[str, Any]:
    """Facts about code and machine that a row records: commit, versions of libraries, processor, device.

    Args:
        threads: CPU threads of the cell.
        device: ``cpu`` or ``cuda``.
    """
    return {
        "date": now(),
        **_code(),
        "python": platform.python_version(),
        "versions": _versions(),
        "machine": _machine(),
        "threads": threads,
        "device": device,
    }


def forget() -> None:
    """Ask for the commit anew when it is next needed."""
    _code.cache_clear()


@cache
def _code() -> dict[str, Any]:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(HOUSE), *words], capture_output=True, text=True, timeout=20
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--", "*.py", "*.yaml")
    except (OSError, subprocess.SubprocessError):
        commit, changed = "", ""
    return {"commit": commit or "unknown", "dirty": bool(changed)}


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def _machine() -> str:
    gpus = [f"{number} x {name}" for name, number in Counter(gpu_names()).items()]
    return ", ".join([f"{os.cpu_count()} x {platform.machine()}", *(gpus or ["no GPU"])])
