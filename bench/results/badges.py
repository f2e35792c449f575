"""Badges: facts about how a row was made that readers should know; no part of its identity."""

from __future__ import annotations

import importlib.metadata
from functools import cache

from bench.cell import Row
from bench.errors import BenchError
from bench.results.source_hash import code_of, libraries

CODE_CHANGED = "code changed since"
COMPARED = ("torch", "transformers", "recbole")  # libraries whose version may move a result


def badges(row: Row) -> tuple[str, ...]:
    """How the code and the libraries that made a row differ from those that are here now.

    ``code changed since``: the source behind its method, loss and decoder is another; its version is the
    same, so its author holds that results did not move. ``other torch``: made under another release of a
    library that its code imports. ``uncommitted code``: the commit in the row does not say all. A row of a
    plugin that is not loaded has nothing to be compared with.
    """
    cell, made = row.cell, row.provenance
    found = ["uncommitted code"] if made.get("dirty") else []
    axes = (cell.method, cell.loss, cell.decoder)
    try:
        now, used = code_of(*axes, config=cell.config), libraries(*axes, config=cell.config)
    except (BenchError, OSError, SyntaxError):
        return tuple(found)
    if made.get("code") not in {None, "", now}:
        found.insert(0, CODE_CHANGED)
    then = made.get("versions") or {}
    found += [
        f"other {name}"
        for name in COMPARED
        if name in used and name in then and _release(str(then[name])) != _installed(name)
    ]
    return tuple(found)


@cache
def _installed(name: str) -> str:
    try:
        return _release(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return ""


def _release(version: str) -> str:
    """A version without its local part: builds for CPU and GPU are one release."""
    return version.partition("+")[0]
