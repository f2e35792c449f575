"""Chooses what to run in a given time."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench.errors import ConfigError
from bench.experiment.plan import Job, Plan

FORM = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?")


def read_duration(text: str) -> float:
    """Seconds of ``8h``, ``30m``, ``1h30m`` or ``90s``.

    Raises:
        ConfigError: it has another form, or is 0.
    """
    found = FORM.fullmatch(text.strip().lower())
    parts = [float(part or 0) for part in found.groups()] if found else [0.0]
    if not any(parts):
        raise ConfigError(f"{text!r} is no time; give one such as 8h, 30m, 1h30m or 90s")
    return sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))


def within(plan: Plan, seconds: float, asked: Iterable[str]) -> Plan:
    """The plan without the cells for which there is no time.

    The cells are gone through in the suite's order; each is taken, with what it needs that is not done, if
    everything taken so far then still ends within the time. A cell of which nothing is known counts
    ``UNKNOWN_SECONDS``. What is not taken gets no row: it is not run this time.

    Args:
        plan: all that would run.
        seconds: wall time that there is.
        asked: keys of the cells that the suite asks for, in its order.
    """
    jobs = {job.cell.key: job for job in plan.jobs}
    taken: set[str] = set()
    for key in asked:
        more = {need for need in _with_needs(key, jobs) if jobs[need].todo}
        if more - taken and plan.only(taken | more).wall <= seconds:
            taken |= more
    return plan.only(taken)


def _with_needs(key: str, jobs: dict[str, Job]) -> set[str]:
    """The cell and all that it needs, directly or not."""
    needed = [_with_needs(need, jobs) for need in jobs[key].cell.needs.values()]
    return {key}.union(*needed)
