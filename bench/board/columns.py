"""What the tables share: who a line is, how numbers are written, and which group a line stands in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.board.entry import Entry
from bench.board.leaderboard import Line
from bench.board.render import NOTHING, Cells, Column, text

GROUPS = ("Methods", "Floors", "Without numbers")
WHO = (
    Column("method", "Method"),
    Column("family", "Family"),
    Column("loss", "Loss"),
    Column("backbone", "Backbone"),
    Column("decoder", "Decoder"),
)
# whoever reads the first columns only has to see why a line has no numbers
NOT_DONE = Column("status", "Status", lambda value: text(None if value == "done" else value))
LABEL = Column("label", "Method", covers=("method", "loss", "backbone", "decoder"))


def who(entry: Entry) -> dict[str, Any]:
    """The cells that say which configuration a line is."""
    cell = entry.cell
    return {
        "label": entry.label,
        "method": entry.name,
        "family": entry.family,
        "loss": cell.loss,
        "backbone": cell.backbone,
        "decoder": cell.decoder,
    }


def grouped(lines: Iterable[tuple[Line, Cells]]) -> tuple[tuple[str, tuple[Cells, ...]], ...]:
    """The cells of lines by ``GROUPS``, each group in the given order."""
    groups: dict[str, list[Cells]] = {name: [] for name in GROUPS}
    for line, cells in lines:
        groups[group_of(line)].append(cells)
    return tuple((name, tuple(found)) for name, found in groups.items())


def group_of(line: Line) -> str:
    """The group that a line stands in, one of ``GROUPS``."""
    return GROUPS[2] if line.mean is None else GROUPS[1] if line.floor else GROUPS[0]


def percent(value: Any) -> str:
    """A share with one decimal of a percent."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def seconds(value: Any) -> str:
    """Seconds, with a decimal below 100."""
    if value is None:
        return NOTHING
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def count(value: Any) -> str:
    """A whole number with commas."""
    return NOTHING if value is None else f"{value:,.0f}"
