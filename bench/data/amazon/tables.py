"""Columns of a CSV, TSV or Parquet file as a stream of Arrow tables, every repair counted."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from bench.data.amazon.streams import BLOCK, Repairs, check_share, open_raw
from bench.data.files import row_error
from bench.errors import DataError

csv.field_size_limit(1 << 24)


def is_parquet(path: str | Path) -> bool:
    """Whether a file starts as Parquet files do."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def column_names(path: str | Path) -> list[str]:
    """Names in the header of a CSV or TSV, or in the schema of a Parquet file.

    Raises:
        DataError: there is no such file, or it is no text.
    """
    if is_parquet(path):
        return list(_open_parquet(path).schema_arrow.names)
    text = _first_line(path)
    return next(csv.reader([text], delimiter=separator(text)))


def separator(header: str) -> str:
    """Tab if the header has one, else a comma."""
    return "\t" if "\t" in header else ","


def _first_line(path: str | Path) -> str:
    with open_raw(path) as stream:
        start = stream.read(1 << 16)
    line = start.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    return line.rstrip(b"\r").decode("utf-8", errors="replace")


def numbered_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV or TSV, header first, each with the line on which it ends; slow, for messages.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    delimiter = separator(_first_line(path))
    with open_raw(path) as stream:
        text = io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", "replace", newline="")
        reader = csv.reader(text, delimiter=delimiter)
        yield from ((reader.line_num, row) for row in reader if row)


def tables(
    path: str | Path,
    columns: Sequence[str],
    repairs: Repairs,
    names: Sequence[str] = (),
    *,
    strict: bool = False,
) -> Iterator[pa.Table]:
    """The wanted columns, a table a block.

    Args:
        path: CSV or TSV (plain, gzip, bzip2 or zip) or Parquet.
        columns: wanted names. CSV columns come as strings, Parquet columns as they are.
        repairs: takes the counts of skipped rows and replaced bytes.
        names: of all columns of a CSV without a header line.
        strict: whether one CSV row of the wrong number of columns is one too many.

    Raises:
        DataError: a column is missing, the file is damaged, or more than one row in a hundred (if
            ``strict``, any row, with its line) has the wrong number of columns.
    """
    present = list(names) or column_names(path)
    if missing := [name for name in columns if name not in present]:
        raise DataError(
            f"{path}: no column {missing[0]!r}; it has {', '.join(map(repr, present[:20]))}. "
            "Name the columns to read"
        )
    if is_parquet(path):
        yield from _parquet(path, columns)
    else:
        yield from _csv(path, columns, repairs, list(names), strict)


def _open_parquet(path: str | Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged Parquet file ({error}); download it again") from error


def _parquet(path: str | Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    try:
        for batch in _open_parquet(path).iter_batches(1 << 18, columns=list(columns)):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged Parquet file ({error}); download it again") from error


def _csv(
    path: str | Path, columns: Sequence[str], repairs: Repairs, names: list[str], strict: bool
) -> Iterator[pa.Table]:
    faults: list[str] = []

    def refuse(row: arrow_csv.InvalidRow) -> str:
        fault = f"row of {row.actual_columns} columns for {row.expected_columns}: {row.text[:40]!r}"
        swallowed = row.text.count("\n") + 1  # an open quote makes one row of many lines
        faults.extend([fault] * swallowed)
        return "skip"

    rows = 0
    with open_raw(path) as stream:
        try:
            for batch in _open_csv(path, _Utf8(stream, repairs), columns, names, refuse):
                rows += batch.num_rows
                yield pa.table({name: batch[name] for name in columns})
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: not a readable table ({error})") from error
    example = faults[0] if faults else ""
    if strict and faults:
        raise row_error(Path(path), _odd_line(path), f"a {example}; repair the row")
    repairs.count("lines had the wrong number of columns and were skipped", len(faults), example)
    check_share(path, len(faults), rows + len(faults), example)


def _odd_line(path: str | Path) -> int:
    """Line of the first row that has more or fewer columns than the header."""
    rows = numbered_rows(path)
    _, header = next(rows)
    return next(line for line, row in rows if len(row) != len(header))


def _open_csv(
    path: str | Path, stream: io.RawIOBase, columns: Sequence[str], names: list[str], refuse: object
) -> arrow_csv.CSVStreamingReader:
    delimiter = separator(_first_line(path))
    return arrow_csv.open_csv(
        pa.PythonFile(stream, mode="r"),
        read_options=arrow_csv.ReadOptions(column_names=names or None, block_size=BLOCK),
        parse_options=arrow_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            include_columns=list(columns),
            strings_can_be_null=False,
        ),
    )


class _Utf8(io.RawIOBase):
    """The bytes of a stream with everything that is not UTF-8 replaced by U+FFFD, counted.

    Arrow must never see such bytes: its handler of bad rows fails on them without a word.
    """

    def __init__(self, source: io.RawIOBase, repairs: Repairs) -> None:
        super().__init__()
        self.source, self.repairs = source, repairs
        self.ready, self.given, self.rest = b"", 0, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes: a replacement is longer than what it replaces."""
        size = BLOCK if size < 0 else size
        if self.given == len(self.ready):
            self.ready, self.given = self._next(size), 0
        piece = self.ready[self.given : self.given + size]
        self.given += len(piece)
        return piece

    def _next(self, size: int) -> bytes:
        while True:
            chunk = self.source.read(max(size, 64)) or b""
            data = self.rest + chunk
            end = _whole(data) if chunk else len(data)
            data, self.rest = data[:end], data[end:]
            if data or not chunk:
                return self._mended(data)

    def _mended(self, data: bytes) -> bytes:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("utf-8", errors="replace")
            added = text.count("\ufffd") - data.count("\ufffd".encode())
            self.repairs.count("stretches of bytes are not UTF-8; each became U+FFFD", added)
            return text.encode()
        return data


def _whole(data: bytes) -> int:
    """Length of ``data`` without a character that its end may cut in two."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < needed else len(data)
        if byte < 0x80:
            break
    return len(data)
