"""Columns of a CSV, TSV or Parquet file as a stream of Arrow tables, every repair counted."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from bench.data.amazon.dialect import LONG, PLAIN, Dialect, Utf8, first_line, open_text
from bench.data.amazon.streams import BLOCK, TOLERATED, Repairs, check_share
from bench.data.files import row_error
from bench.errors import DataError

csv.field_size_limit(1 << 24)
OPEN_END = "files end within a line; if one was cut off there, its last row is not whole"
HEADER_WORDS = {"user", "userid", "user_id", "item", "itemid", "item_id", "movieid", "timestamp"}


def is_parquet(path: str | Path) -> bool:
    """Whether a file starts as Parquet files do."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def column_names(
    path: str | Path, dialect: Dialect = PLAIN, names: Sequence[str] = ()
) -> list[str]:
    """Names in the header of a CSV or TSV, or in the schema of a Parquet file.

    Args:
        path: the file.
        dialect: how it is written.
        names: of the first columns of a file without a header; the others are called by their place.

    Raises:
        DataError: there is no such file, it is no text, or it has fewer columns than names.
    """
    if is_parquet(path):
        return list(_open_parquet(path).schema_arrow.names)
    line = first_line(path, dialect)
    between = dialect.between(line, len(names))
    present = next(
        _rows(path, io.StringIO(line.replace(between, _byte(between))), between), (1, [])
    )[1]
    if not names:
        return present
    if HEADER_WORDS & {cell.strip().lower() for cell in present}:
        raise DataError(
            f"{path}: columns are named, but its first line, {line[:60]!r}, looks like a header; say "
            "which of its columns to read instead (--user-column ...)"
        )
    if len(present) < len(names):
        raise DataError(
            f"{path}: {len(names)} columns are named and its first line has {len(present)} with "
            f"{between!r} between them; name the --separator"
        )
    return [*names, *(f"column {place + 1}" for place in range(len(names), len(present)))]


def _byte(between: str) -> str:
    return between if len(between) == 1 else LONG


def _rows(path: str | Path, text: io.TextIOBase, between: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each ends.

    Raises:
        DataError: with the line at which the text is no CSV.
    """
    if _quoted(between):
        reader = csv.reader(text, delimiter=_byte(between))
    else:
        reader = csv.reader(text, delimiter=_byte(between), quoting=csv.QUOTE_NONE)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise row_error(Path(path), reader.line_num, f"not CSV ({error})") from error


def _quoted(between: str) -> bool:
    """Files with a separator of several characters know no quotes."""
    return len(between) == 1


def numbered_rows(path: str | Path, dialect: Dialect = PLAIN) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV or TSV, header first, each with the line on which it ends; slow, for messages.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    between = dialect.between(first_line(path, dialect))
    with open_text(path, Repairs(), dialect, between=between) as stream:
        text = io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", "replace", newline="")
        yield from ((line, row) for line, row in _rows(path, text, between) if row)


def tables(
    path: str | Path,
    columns: Sequence[str],
    repairs: Repairs,
    names: Sequence[str] = (),
    *,
    dialect: Dialect = PLAIN,
    strict: bool = False,
) -> Iterator[pa.Table]:
    """The wanted columns, a table a block.

    Args:
        path: CSV or TSV (plain or packed) or Parquet.
        columns: wanted names. CSV columns come as strings, Parquet columns as they are.
        repairs: takes the counts of skipped rows and replaced bytes.
        names: of the first columns of a CSV without a header line.
        dialect: how the text is written.
        strict: whether one CSV row of the wrong number of columns is one too many.

    Raises:
        DataError: a column is missing, the file is damaged, or more than one row in a hundred (if
            ``strict``, any row, with its line) has the wrong number of columns or bytes that are no text.
    """
    present = column_names(path, dialect, names)
    if missing := [name for name in columns if name not in present]:
        raise DataError(
            f"{path}: no column {missing[0]!r}; it has {', '.join(map(repr, present[:20]))}. "
            "Name the columns to read (--columns, if the file has no header line)"
        )
    if is_parquet(path):
        yield from _parquet(path, columns)
    else:
        yield from _csv(path, columns, repairs, (present if names else [], dialect), strict)


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
    path: str | Path,
    columns: Sequence[str],
    repairs: Repairs,
    layout: tuple[list[str], Dialect],
    strict: bool,
) -> Iterator[pa.Table]:
    faults: list[str] = []
    names, dialect = layout

    def refuse(row: arrow_csv.InvalidRow) -> str:
        fault = f"row of {row.actual_columns} columns for {row.expected_columns}: {row.text[:40]!r}"
        swallowed = row.text.count("\n") + 1  # an open quote makes one row of many lines
        faults.extend([fault] * swallowed)
        return "skip"

    rows = 0
    between = dialect.between(first_line(path, dialect), len(names))
    with open_text(path, repairs, dialect, between=between) as stream:
        try:
            for batch in _open_csv(stream, between, columns, names, refuse):
                rows += batch.num_rows
                yield pa.table({name: batch[name] for name in columns})
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: not a readable table ({error})") from error
    if faults and strict:
        raise row_error(Path(path), _odd_line(path, dialect), f"a {faults[0]}; repair the row")
    example = f"line {_odd_line(path, dialect)}: {faults[0]}" if faults else ""
    repairs.count("lines had the wrong number of columns and were skipped", len(faults), example)
    repairs.count(OPEN_END, int(stream.is_open_ended), f"{Path(path).name}: {stream.last_line!r}")
    check_share(path, len(faults), rows + len(faults), example)
    check_bytes(path, stream.bad_lines, rows + len(faults), stream.example)


def check_bytes(path: str | Path, bad: int, lines: int, example: str) -> None:
    """Refuse a text of which too many lines hold bytes of another encoding.

    Raises:
        DataError: more than one such line, and more than one in a hundred.
    """
    if bad > max(1, lines // TOLERATED):
        raise DataError(
            f"{path}: {bad:,} of {lines:,} lines hold bytes that do not fit the encoding, {example}; "
            "state it: --encoding latin-1, cp1252 ..."
        )


def _odd_line(path: str | Path, dialect: Dialect) -> int | str:
    """Line of the first row that has more or fewer columns than the first."""
    rows = numbered_rows(path, dialect)
    try:
        _, header = next(rows)
        return next(line for line, row in rows if len(row) != len(header))
    except (StopIteration, DataError):
        return "unknown"


def _open_csv(
    stream: Utf8, between: str, columns: Sequence[str], names: list[str], refuse: object
) -> arrow_csv.CSVStreamingReader:
    return arrow_csv.open_csv(
        pa.PythonFile(stream, mode="r"),
        read_options=arrow_csv.ReadOptions(column_names=names or None, block_size=BLOCK),
        parse_options=arrow_csv.ParseOptions(
            delimiter=_byte(between),
            quote_char='"' if _quoted(between) else False,
            newlines_in_values=_quoted(between),
            invalid_row_handler=refuse,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            include_columns=list(columns),
            strings_can_be_null=False,
        ),
    )
