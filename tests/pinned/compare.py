"""Whether a tiny run gave what is pinned: scores to a tolerance, lists up to near ties."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.registry import HOUSE, decoders, losses, methods

RELATIVE, ABSOLUTE = 2e-3, 1e-4  # training in float32 on another processor stays well below


def moved(pinned: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of a run is not as pinned, in a few words; empty if it is."""
    items = [np.array(run["items"]) for run in (pinned, now)]
    if items[0].shape != items[1].shape:
        return f"lists of shape {items[1].shape}, pinned {items[0].shape}"
    if pinned["scores"]:
        return _by_score(*items, *(np.array(run["scores"]) for run in (pinned, now)))
    different = np.flatnonzero((items[0] != items[1]).any(1))
    return (
        f"{len(different)} of {len(items[0])} lists, first query {different[0]}"
        if len(different)
        else ""
    )


def _by_score(was_QK: Any, is_QK: Any, was: Any, now: Any) -> str:
    if was.shape != now.shape:
        return "scores that were not there, or are no more"
    allowed = ABSOLUTE + RELATIVE * np.abs(was)
    off = np.abs(was - now) / allowed
    if off.max(initial=0.0) > 1:
        query = int(off.max(1).argmax())
        return f"a score by {np.abs(was - now).max():.2g}, most in query {query}"
    for query, (old, new) in enumerate(zip(was_QK, is_QK, strict=True)):
        for place in np.flatnonzero(old != new):
            if not _tied(old[place], was[query], new, now[query], place):
                return f"the order of query {query} at place {place + 1}"
    return ""


def _tied(item: int, was_K: Any, new_K: Any, now_K: Any, place: int) -> bool:
    """Whether an item that left its place only changed it with one of the same score."""
    near = 2 * (ABSOLUTE + RELATIVE * abs(was_K[place]))
    at = np.flatnonzero(new_K == item)
    reached = now_K[at[0]] if len(at) else now_K[-1]  # out of the list: no worse than its last
    return bool(abs(reached - was_K[place]) <= near)


def verdict(label: str, pinned: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What to do about a run that is not as pinned; empty if it is."""
    name = label.partition("/")[0].partition("+")[0]
    again = f"run `python -m tests.pinned {name}`"
    if dict(pinned["versions"]) != dict(now["versions"]):
        return f"{label} declares {now['versions']}, its pinned result is of {pinned['versions']}: {again}"
    what = moved(pinned, now) or _metrics_moved(pinned, now)
    if not what:
        return ""
    return (
        f"{label}: results moved ({what}) and no version did. If that is meant, raise `version` in "
        f"{' or '.join(_files(label))} by one and {again}; if it is not, mend it: rows made before would "
        "pass for the same"
    )


def _metrics_moved(pinned: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    # equal lists with other metrics: the scorer itself moved, see PROTOCOL in bench/cell.py
    if pinned["items"] != now["items"]:
        return ""
    off = [k for k, v in pinned["metrics"].items() if abs(now["metrics"].get(k, -1) - v) > 1e-9]
    return (
        f"metric {off[0]} of the same lists; for a scorer raise PROTOCOL in bench/cell.py"
        if off
        else ""
    )


def _files(label: str) -> list[str]:
    head, _, decoder = label.partition("/")
    name, _, loss = head.partition("+")
    paths = [methods.path(name)]
    paths += [losses.path(loss)] if loss and loss in losses else []
    paths += [decoders.path(decoder)] if decoder else []
    return [str(Path(path).relative_to(HOUSE)) for path in paths]
