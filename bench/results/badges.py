"""Badges: facts about how a row was made that readers should know; no part of its identity."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from functools import cache

from bench.cell import Row
from bench.errors import BenchError
from bench.results.source_hash import code_of, libraries

CODE_CHANGED = "code changed since"
CLAMPED = "temperature at its clamp in all steps"
TRUNCATED = "truncated histories"
OTHER = "other "  # how a badge of a library begins
CUTS = ("history_dropped", "queries_history_dropped", "prompts_too_long")  # facts that count them
COMPARED = ("torch", "transformers", "recbole")  # libraries whose version may move a result


def badges(row: Row) -> tuple[str, ...]:
    """How the code and the libraries that made a row differ from those that are here now.

    ``code changed since``: the source behind its method, loss and decoder is another; its version is the
    same, so its author holds that results did not move. ``other torch``: made under another release of a
    library that its code imports. ``uncommitted code``: the commit in the row does not say all. A row of a
    plugin that is not loaded has nothing to be compared with. Facts of the run are badges too: an adaptive
    temperature that never left its clamp, histories cut to fit, a teacher of fewer rows than there are.
    """
    cell, made = row.cell, row.provenance
    found = ["uncommitted code"] if made.get("dirty") else []
    found += _of_facts(row)
    axes = (cell.method, cell.loss, cell.decoder)
    try:
        now, used = code_of(*axes, config=cell.config), libraries(*axes, config=cell.config)
    except (BenchError, OSError, SyntaxError, LookupError, TypeError, ValueError):
        return tuple(found)  # not here, or a configuration that its method would refuse
    if made.get("code") not in {None, "", now}:
        found.insert(0, CODE_CHANGED)
    then = made.get("versions") or {}
    found += [
        f"{OTHER}{name}"
        for name in COMPARED
        if name in used and name in then and _release(str(then[name])) != _installed(name)
    ]
    return tuple(found)


def voiding(found: Iterable[str]) -> tuple[str, ...]:
    """The badges with which nothing can be called reproduced: all but those of libraries."""
    return tuple(badge for badge in found if not badge.startswith(OTHER))


def _of_facts(row: Row) -> list[str]:
    facts = row.facts
    found = [CLAMPED] if facts.get("ats_clamped") == 1 and facts.get("ats_updates") else []
    if any(facts.get(name) for name in CUTS):
        found.append(TRUNCATED)
    share = facts.get("teacher_rows_share")
    if share is not None and share < 1:
        found.append(f"teacher on {int(facts['teacher_rows']):,} rows, {100 * share:.1f} % of them")
    cot = row.cell.config.get("cot")
    written = cot.get("rows") if isinstance(cot, Mapping) else None
    if isinstance(written, int) and written and facts.get("entries"):
        found.append(f"rationales on {written:,} rows")
    return found


@cache
def _installed(name: str) -> str:
    try:
        return _release(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return ""


def _release(version: str) -> str:
    """A version without its local part: builds for CPU and GPU are one release."""
    return version.partition("+")[0]
