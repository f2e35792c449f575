"""Which files a category consists of, and what their columns are called in each release."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from bench.data.amazon.columns import is_readable
from bench.data.amazon.dialect import PLAIN, Dialect
from bench.data.amazon.events import TOLERATED
from bench.data.amazon.json_records import json_start, json_tables, record_line
from bench.data.amazon.streams import Repairs
from bench.data.amazon.tables import column_names, is_parquet, numbered_rows, tables
from bench.data.amazon.times import Unit, nth_row
from bench.errors import DataError

DOMAINS = {
    "Books": "book",
    "Toys_and_Games": "toy",
    "Clothing_Shoes_and_Jewelry": "clothing",
    "Office_Products": "office",
    "Movies_and_TV": "movie",
}


@dataclass(frozen=True)
class Release:
    """How one release of the reviews is laid out.

    Attributes:
        reviews: file names of the reviews, the 5-core first; its core is that of the full file, so it
            gives the same rebuild unless items are sampled.
        metadata: file names of the titles.
        fields: user, item and time in the JSON lines of the reviews.
        ratings: columns of the ratings-only CSV.
        header: whether that CSV has a header line.
        item: name of the item in the metadata.
        unit: of the times.
    """

    reviews: tuple[str, ...]
    metadata: tuple[str, ...]
    fields: tuple[str, str, str]
    ratings: tuple[str, ...]
    header: bool
    item: str
    unit: Unit


_FIELDS = ("reviewerID", "asin", "unixReviewTime")
RELEASES = {
    "2014": Release(
        ("reviews_{}_5.json.gz", "reviews_{}.json.gz", "ratings_{}.csv"),
        ("meta_{}.json.gz",),
        _FIELDS,
        ("user", "item", "rating", "timestamp"),
        header=False,
        item="asin",
        unit="s",
    ),
    "2018": Release(
        ("{}_5.json.gz", "{}.json.gz", "{}.csv"),
        ("meta_{}.json.gz",),
        _FIELDS,
        ("item", "user", "rating", "timestamp"),
        header=False,
        item="asin",
        unit="s",
    ),
    "2023": Release(
        ("{}.jsonl.gz", "{}.jsonl", "{}.csv.gz", "{}.csv"),
        ("meta_{}.jsonl.gz", "meta_{}.jsonl"),
        ("user_id", "parent_asin", "timestamp"),
        ("user_id", "parent_asin", "rating", "timestamp"),
        header=True,
        item="parent_asin",
        unit="ms",
    ),
}


@dataclass(frozen=True, kw_only=True)
class RawSource:
    """Raw reviews and titles, and how to read them.

    Attributes:
        name: of the dataset that comes out.
        reviews: JSON lines, a JSON array, CSV, TSV or Parquet; plain or packed.
        metadata: item titles in any of these forms, None if there are none.
        review_columns: ``user``, ``item`` and ``time`` by what the file calls them; without a time,
            the order of the rows stands for it.
        title_columns: ``item`` and ``title`` by what the file calls them.
        names: columns of a reviews CSV that has no header line, as many as are of interest.
        title_names: the same of the metadata.
        dialect: how CSV and JSON files are written.
        unit: of times that are numbers.
        time_format: a pattern of ``strptime``, for dates in an unusual form.
        tolerated: largest share of reviews that may be unusable.
        domain: decides the words of the prompt, and the row of Table 4 to compare with.
    """

    name: str
    reviews: Path
    metadata: Path | None = None
    review_columns: dict[str, str] = field(
        default_factory=lambda: {"user_id": "user", "asin": "item", "timestamp": "time"}
    )
    title_columns: dict[str, str] = field(
        default_factory=lambda: {"asin": "item", "title": "title"}
    )
    names: tuple[str, ...] = ()
    title_names: tuple[str, ...] = ()
    dialect: Dialect = PLAIN
    unit: Unit = "auto"
    time_format: str | None = None
    tolerated: float = TOLERATED
    domain: str = "item"

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that decide the result."""
        return (self.reviews,) if self.metadata is None else (self.reviews, self.metadata)

    @classmethod
    def find(
        cls, folder: str | Path, category: str, release: str, reviews: str | None = None
    ) -> RawSource:
        """The files of a category in a folder, under the names they were published with.

        Args:
            folder: where they lie.
            category: as in the files' names, such as ``Office_Products``.
            release: 2014, 2018 or 2023.
            reviews: name of the reviews file where the first one found is not the one meant.

        Raises:
            DataError: no such release, or a file is missing.
        """
        if release not in RELEASES:
            raise DataError(f"no release is called {release!r}; known: {', '.join(RELEASES)}")
        layout, folder = RELEASES[release], Path(folder)
        names = (reviews,) if reviews else tuple(name.format(category) for name in layout.reviews)
        path = _first(folder, names)
        json_lines = bool(json_start(path))
        fields = layout.fields if json_lines or layout.header else ("user", "item", "timestamp")
        return cls(
            name=f"{category.lower()}-{release}",
            reviews=path,
            metadata=_first(folder, tuple(name.format(category) for name in layout.metadata)),
            review_columns=dict(zip(fields, ("user", "item", "time"), strict=True)),
            title_columns={layout.item: "item", "title": "title"},
            names=() if json_lines or layout.header else layout.ratings,
            unit=layout.unit,
            domain=DOMAINS.get(category, "item"),
        )

    def read_reviews(self, repairs: Repairs) -> Iterator[pa.Table]:
        """Tables with the columns ``user``, ``item`` and ``time``.

        Raises:
            DataError: the file is missing, damaged or of another format, or a column of another type.
        """
        columns = self.review_columns
        if self._is_json(self.reviews):
            kinds = {"time": pa.int64()}
            fields = {theirs: kinds.get(ours, pa.string()) for theirs, ours in columns.items()}
            found = json_tables(self.reviews, fields, repairs, dialect=self.dialect)
        else:
            found = tables(self.reviews, list(columns), repairs, self.names, dialect=self.dialect)
        return (_renamed(self.reviews, table, columns) for table in found)

    def read_metadata(self, wanted: frozenset[str], repairs: Repairs) -> Iterator[pa.Table]:
        """Tables with the columns ``item`` and ``title``; items not ``wanted`` may be left out.

        Raises:
            DataError: the file is missing, damaged or of another format, or a column of another type.
        """
        assert self.metadata is not None, "there is metadata to read"
        columns = self.title_columns
        if self._is_json(self.metadata):
            name_of_item = next(theirs for theirs, ours in columns.items() if ours == "item")
            fields = dict.fromkeys(columns, pa.string())
            only = (name_of_item, wanted)
            found = json_tables(self.metadata, fields, repairs, only, dialect=self.dialect)
        else:
            found = tables(
                self.metadata, list(columns), repairs, self.title_names, dialect=self.dialect
            )
        return (_renamed(self.metadata, table, columns) for table in found)

    def _is_json(self, path: Path) -> bool:
        return bool(json_start(path, self.dialect))

    def place(self, row: int) -> str:
        """The line of a review, counted from 0, as a message names it; slow."""
        if is_parquet(self.reviews):
            return nth_row(row)
        if self._is_json(self.reviews):
            return record_line(self.reviews, row, self.dialect)
        return csv_line(self.reviews, row, self.names, self.dialect)


def csv_line(path: Path, row: int, names: tuple[str, ...], dialect: Dialect) -> str:
    """The line of a row of a CSV, counted from 0 below the header; rows of another width do not count."""
    width = len(column_names(path, dialect, names))
    if not names:
        row += 1
    for line, cells in numbered_rows(path, dialect):
        row -= len(cells) == width
        if row < 0:
            return f"line {line}"
    return "an unknown line"


def _renamed(path: Path, table: pa.Table, columns: dict[str, str]) -> pa.Table:
    for theirs, ours in columns.items():
        kind = table.schema.field(theirs).type
        if not is_readable(kind, as_time=ours == "time"):
            raise DataError(
                f"{path}: column {theirs!r} is of type {kind}, which cannot be read as {ours}; "
                "allowed: numbers, dates and text"
            )
    return table.select(list(columns)).rename_columns(list(columns.values()))


def _first(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"{folder}: none of {', '.join(names)} is there; download the category from the "
        "publisher, or check its spelling"
    )
