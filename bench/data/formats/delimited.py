"""A plain table of who took what and when, as a dataset; and a dataset as the published files."""

from __future__ import annotations

from pathlib import Path

from bench.data.amazon.rebuild import rebuild
from bench.data.amazon.sources import RawSource
from bench.data.amazon.switches import RebuildSwitches
from bench.data.exams import rows_of
from bench.data.formats.titles import write_titles
from bench.data.formats.windows import write_windows
from bench.data.splits import PAPER, Protocol
from bench.errors import ConfigError, DataError
from bench.types import Dataset

SAMPLE = 10_000


def read_table(
    path: str | Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str = "timestamp",
    title: str | None = None,
    split: Protocol = PAPER,
) -> Dataset:
    """Read one table of interactions: CSV or TSV (plain, gzip, bzip2, zip), JSON lines or Parquet.

    Every row is an interaction and every item stays, with or without a title. Users and items are
    numbered by their names in order (by value if all are whole numbers), so row order does not matter.
    Times are whole seconds, milliseconds (told by size), or ISO dates taken as UTC.

    Args:
        path: the file; its stem names the dataset.
        user: name of the column with the user's id.
        item: name of the column with the item's id.
        time: name of the column with the time.
        title: name of the column with the item's title, None if there is none.
        split: how to cut the windows.

    Raises:
        DataError: the file or a column is missing, the file is damaged, times that only a fraction of a
            second tells apart, or too little is left to split.
        ConfigError: one column is named for two purposes.
    """
    path = Path(path)
    chosen = [user, item, time, *([] if title is None else [title])]
    if len(set(chosen)) != len(chosen):
        raise ConfigError(f"each of user, item, time, title needs its own column, got {chosen}")
    source = RawSource(
        name=path.name.partition(".")[0],
        reviews=path,
        metadata=None if title is None else path,
        review_columns={user: "user", item: "item", time: "time"},
        title_columns={item: "item", title or "title": "title"},
    )
    return rebuild(source, every_row(split))


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
    ``train_10000.csv`` drawn as the authors drew theirs where train has more rows than that.

    Returns:
        The files written.

    Raises:
        DataError: the folder already holds one of them.
    """
    folder = Path(folder)
    split = dataset.split
    parts = {
        "train.csv": split.train,
        "valid.csv": rows_of(split.valid),
        "test.csv": rows_of(split.test),
    }
    if len(split.train) > SAMPLE:
        parts[f"train_{SAMPLE}.csv"] = split.train.sample(SAMPLE)
    for name in (*parts, "id2name4Rec.json"):
        if (folder / name).exists():
            raise DataError(f"{folder / name} is already there; write to a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        write_windows(folder / name, rows)
    write_titles(folder / "id2name4Rec.json", dataset.catalogue)
    return [folder / name for name in (*parts, "id2name4Rec.json")]
