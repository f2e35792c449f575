"""``bench verify --store``: reads everything that runs have left on this machine and says what is damaged."""

from __future__ import annotations

from collections import Counter


def verify_store(out: str, root: str) -> int:
    """Print each damaged file with what becomes of it; 1 if there is any.

    Args:
        out: folder of the tables, whose ``rows`` are read too.
        root: the run store; empty for the default.
    """
    from bench.api import default_store
    from bench.execution.store_files import look_through

    counts: Counter[str] = Counter()
    wrong = 0
    for found in look_through(default_store(out, root or None)):
        counts[found.kind.name if found.kind else "of no known kind"] += 1
        if found.kind is None:
            print(f"{found.path}: of no known kind; nothing reads it")
        elif found.fault:
            wrong += 1
            print(f"{found.path}: {found.fault}; it is {found.kind.heals} when it is next needed")
    parts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"{sum(counts.values())} files read ({parts}); {wrong} damaged")
    return 1 if wrong else 0
