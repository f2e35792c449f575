"""Lets a long-lived process, such as a notebook, see the code and data that are on disk now.

Each cell runs in a process of its own, which imports the code anew. The process that plans keeps the modules
that it has imported: after a change to a method's defaults or needs, restart it for the plan to show them.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver

from bench import registry
from bench.data import load
from bench.registry import HOUSE
from bench.results import model_files, provenance, source_hash
from bench.results.source_files import ROOMS

_seen: dict[str, tuple[int, int]] = {}  # of every file of the house: size, time of change (ns)


def look_again() -> None:
    """Empty the caches of hashes, datasets, the commit and registered names."""
    for part in (source_hash, model_files, load, provenance):
        part.forget()
    registry.look_again()
    marks = _marks()
    if _seen and marks != _seen:
        _end_server()
    _seen.clear()
    _seen.update(marks)


def _marks() -> dict[str, tuple[int, int]]:
    paths = (path for room in ("bench", *ROOMS) for path in (HOUSE / room).rglob("*.py"))
    return {str(p): (facts.st_size, facts.st_mtime_ns) for p in paths for facts in [p.stat()]}


def _end_server() -> None:
    """End the process that heavy cells are forked from, which has imported the code as it was."""
    if not multiprocessing.active_children():  # theirs would lose their exit code
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
