"""How a cell came to its result, or why it has none, in a few lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from bench.cell import Cell, Row
from bench.config_words import shown
from bench.errors import BenchError
from bench.experiment.profiles import PAPER, departures
from bench.method import configure
from bench.questions.find import Found
from bench.registry import methods
from bench.results.badges import badges
from bench.results.store import Store

LOG_LINES = 12
FACTS = ("epochs", "best_epoch", "parameters_total", "tau", "certified_share", "tuned")


def why(found: Found, store: Store) -> Iterator[str]:
    """Status and reason, what sets the configuration apart, where the files are, and what to do next.

    Args:
        found: a row.
        store: where its artefacts may be.
    """
    cell, row = found.cell, found.row
    made = row.provenance
    yield f"{cell.name}: {row.status}" + (f": {row.reason}" if row.reason else "")
    yield f"  board      scale {cell.scale}, profile {cell.profile}, protocol {cell.protocol}"
    where = made.get("machine", "?")
    yield f"  made       {made.get('date', '?')}, commit {made.get('commit', '?')}, {where}"
    for name, said in (
        ("remarks", "; ".join(badges(row))),
        ("config", _config(cell)),
        ("paper", _paper(cell)),
        ("needs", ", ".join(f"{name} {key[:6]}" for name, key in cell.needs.items())),
        ("facts", _facts(row.facts)),
        ("time", _cost(row)),
    ):
        if said:
            yield f"  {name:<10} {said}"
    yield f"  row        {found.path}"
    folder = store.folder(cell.key)
    model = store.artefact(cell)
    if folder.is_dir():
        yield f"  files      {folder}: {', '.join(sorted(part.name for part in folder.iterdir()))}"
    if row.status != "done":
        yield from _log(store, cell)
    yield f"  next       {_next(found, model is not None)}"


def _changed(cell: Cell) -> Iterator[tuple[str, Any, Any]]:
    """Values of the configuration that are not the method's own defaults, with these; none for a plugin."""
    if cell.method not in methods:
        return
    method, axes = methods.get(cell.method), {"loss": cell.loss, "decoder": cell.decoder}
    usual = method.complete(configure(method, None), **axes).declared()
    for key, value in cell.config.items():
        if value != usual.get(key):
            yield key, value, usual.get(key)


def _config(cell: Cell) -> str:
    parts = [
        f"{key} {shown(value)} (default {shown(usual)})" for key, value, usual in _changed(cell)
    ]
    return "; ".join(parts) or "the defaults of the method"


def _paper(cell: Cell) -> str:
    try:
        found = departures(cell, PAPER)
    except BenchError:
        return ""
    return f"departs from the released recipe: {', '.join(found)}" if found else ""


def _facts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {facts[name]}" for name in FACTS if facts.get(name) is not None)


def _cost(row: Row) -> str:
    parts = [
        f"{phase} {bill['seconds']:.0f} s"
        for phase, bill in row.cost.items()
        if bill.get("seconds")
    ]
    made = row.provenance
    parts += [f"whole cell {made['wall_seconds']:.0f} s"] if "wall_seconds" in made else []
    if "predicted_seconds" in made:
        told, low, high = made["predicted_seconds"]
        parts.append(f"predicted {told:.0f} s ({low:.0f} to {high:.0f})")
    return ", ".join(parts)


def _log(store: Store, cell: Cell) -> Iterator[str]:
    """The end of the cell's log, where there is one."""
    path = store.folder(cell.key) / "log.txt"
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        yield f"  log        the end of {path}:"
        yield from (f"    {line}" for line in lines)


def _next(found: Found, model: bool) -> str:
    cell = found.cell
    again = command(cell)
    if found.row.status == "failed":
        return f"mend the cause, then {again} --retry"
    if found.row.status == "left out":
        return f"provide what is missing, then {again} --retry"
    if not model:
        return f"its model is not on this machine; {again} --reuse never makes it"
    return f"`bench lists {cell.name}`, `bench recommend {cell.name} --history ...`"


def command(cell: Cell) -> str:
    """The command that asks for a cell again, every value that is not a default set by hand.

    Args:
        cell: of a suite whose caps on rows are those of its scale; of others the caps are not said.
    """
    words = ["python", "-m", "bench", "run", "--scale", cell.scale, "--profile", cell.profile]
    words += ["--datasets", cell.dataset, "--methods", cell.method, "--seeds", str(cell.seed)]
    for option, value in (("--losses", cell.loss), ("--backbone", cell.backbone)):
        words += [option, value] if value else []
    for key, value, _ in _changed(cell):
        words += ["--set", f"{key}={shown(value)}"]
    return shlex.join(words)
