"""A plain table of who took what and when, as a dataset; and a dataset as the published files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.amazon.dialect import PLAIN, Dialect
from bench.data.amazon.events import TOLERATED
from bench.data.amazon.rebuild import rebuild
from bench.data.amazon.sources import RawSource
from bench.data.amazon.switches import RebuildSwitches
from bench.data.amazon.times import Unit
from bench.data.exams import rows_of
from bench.data.formats.names import write_names
from bench.data.formats.titles import write_titles
from bench.data.formats.windows import write_windows
from bench.data.splits import PAPER, Protocol
from bench.data.whole import written_whole
from bench.errors import ConfigError
from bench.types import Dataset

SAMPLE, TITLES = 10_000, "id2name4Rec.json"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a table keeps what, and how it is written.

    Attributes:
        user, item: the columns with their ids.
        time: the column with the time; None where the order of the rows stands for it.
        title: the column with the item's title, None if there is none.
        names: the first columns of a file without a header line.
        items: another file with the titles, which has the columns ``item`` and ``title``.
        item_names: the first columns of that one, if it has no header line.
        dialect: separator and encoding, where they are not to be told from the content.
        unit: of times that are numbers.
        time_format: a pattern of ``strptime``, for dates in an unusual form.
        tolerated: largest share of rows that may be unusable.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str | None = "timestamp"
    title: str | None = None
    names: tuple[str, ...] = ()
    items: Path | None = None
    item_names: tuple[str, ...] = ()
    dialect: Dialect = PLAIN
    unit: Unit = "auto"
    time_format: str | None = None
    tolerated: float = TOLERATED

    def __post_init__(self) -> None:
        chosen = [
            name for name in (self.user, self.item, self.time, self.title) if name is not None
        ]
        if len(set(chosen)) != len(chosen):
            raise ConfigError(f"each of user, item, time, title needs its own column, got {chosen}")
        if not 0 <= self.tolerated < 1:
            raise ConfigError(f"--tolerate is a share from 0 to below 1, got {self.tolerated}")

    def source(self, path: Path) -> RawSource:
        """A table of this layout, as a source to rebuild from."""
        found = {self.user: "user", self.item: "item", self.time: "time"}
        titled = {self.item: "item", self.title or "title": "title"}
        return RawSource(
            name=path.name.partition(".")[0],
            reviews=path,
            metadata=self.items or (path if self.title is not None else None),
            review_columns={theirs: ours for theirs, ours in found.items() if theirs is not None},
            title_columns=titled,
            names=self.names,
            title_names=self.item_names if self.items else self.names,
            dialect=self.dialect,
            unit=self.unit,
            time_format=self.time_format,
            tolerated=self.tolerated,
        )


def read_table(path: str | Path, *, split: Protocol = PAPER, **layout: Any) -> Dataset:
    """Read one table of interactions: CSV or TSV (plain or packed), JSON or Parquet.

    Every row is an interaction and every item stays, with or without a title. Users and items are
    numbered by their names in order (by value if all are whole numbers), so row order does not matter
    where there are times. Times may be numbers or dates (:mod:`bench.data.amazon.times`), taken as UTC.

    Args:
        path: the file; its stem names the dataset.
        split: how to cut the windows.
        layout: fields of :class:`Layout`.

    Raises:
        DataError: the file or a column is missing, the file is damaged, more rows than tolerated cannot
            be used, times that cannot be understood, or too little is left to split.
        ConfigError: one column is named for two purposes.
    """
    return rebuild(Layout(**layout).source(Path(path)), every_row(split))


def every_row(split: Protocol) -> RebuildSwitches:
    """Switches that keep all interactions and number everything by name."""
    return RebuildSwitches(
        core=0,
        window=split.width,
        min_length=split.min_length,
        protocol=split.name,
        title_required=False,
        item_order="sorted",
        user_order="sorted",
    )


def write_published(dataset: Dataset, folder: str | Path) -> list[Path]:
    """Write a dataset as the published ones are, to be put under a data root and read by name.

    ``train.csv``, ``valid.csv``, ``test.csv`` (``user_id,item_ids,timestamp``), ``id2name4Rec.json``, and
    ``train_10000.csv`` drawn as the authors drew theirs where train has more rows than that; without
    ``valid.csv`` where validation was cut out of train; ``ids.json`` where users and items have names of
    their own. All of it, or nothing.

    Returns:
        The files written.

    Raises:
        DataError: the folder is there and not empty, or cannot be written.
    """
    with written_whole(Path(folder)) as part:
        names = [path.name for path in published_files(dataset, part)]
    return [Path(folder) / name for name in names]


def published_files(dataset: Dataset, folder: Path) -> list[Path]:
    """Write the files of :func:`write_published` into a folder that is there."""
    split = dataset.split
    parts = {"train.csv": split.train, "test.csv": rows_of(split.test)}
    if split.uncut is None:
        parts["valid.csv"] = rows_of(split.valid)
    else:  # the reader cuts validation out of train again
        parts["train.csv"] = split.uncut
    if len(parts["train.csv"]) > SAMPLE:
        parts[f"train_{SAMPLE}.csv"] = parts["train.csv"].sample(SAMPLE)
    for name, rows in parts.items():
        write_windows(folder / name, rows)
    write_titles(folder / TITLES, dataset.catalogue)
    return [*(folder / name for name in (*parts, TITLES)), *write_names(dataset, folder)]
