"""Interactions as they were understood, for people to check before anything is trained on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from bench.types import Dataset

SHOWN = 10


@dataclass(frozen=True)
class Interaction:
    """Who took what and when.

    Attributes:
        user, item: what they are called where the data came from.
        title: of the item, empty if it has none.
        time: unix seconds.
    """

    user: str
    item: str
    title: str
    time: int


@dataclass(frozen=True, eq=False)
class Understood:
    """A dataset and its first interactions in the order of the source."""

    dataset: Dataset
    rows: tuple[Interaction, ...]


def of_windows(dataset: Dataset) -> Understood:
    """A dataset that came as windows, shown by the targets of its first training rows."""
    train, names = dataset.split.train, dataset.catalogue
    rows = (
        Interaction(
            dataset.user_name(int(train.user_W[row])),
            names.item_name(int(train.target_W[row])),
            names.titles[train.target_W[row]],
            int(train.timestamp_W[row]),
        )
        for row in range(min(SHOWN, len(train)))
    )
    return Understood(dataset, tuple(rows))


def lines(rows: Iterable[Interaction]) -> Iterator[str]:
    """A table of interactions; what is not printable is shown as ``?``."""
    cells = [("user", "item", "time (UTC)", "title")]
    cells += [(row.user, row.item, date(row.time), row.title or "(no title)") for row in rows]
    plain = [
        [printable(cell)[:width] for cell, width in zip(row, WIDTHS, strict=True)] for row in cells
    ]
    wide = [max(len(row[column]) for row in plain) for column in range(3)]
    for *start, title in plain:
        padded = (cell.ljust(width) for cell, width in zip(start, wide, strict=True))
        yield f"  {'  '.join(padded)}  {title}"


WIDTHS = (24, 24, 20, 60)  # characters a column shows at most


def date(time: int) -> str:
    """Unix seconds as ``2020-11-27 07:49:03``."""
    try:
        return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{time} s"  # not a time any calendar here knows


def printable(text: str) -> str:
    """A text that is safe for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
