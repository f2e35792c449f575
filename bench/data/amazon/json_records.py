"""Records of a file of JSON lines, of Python literals, or of one JSON array, as Arrow tables.

Whole blocks go through Arrow's parser. A block it refuses (one bad line is enough, and the 2014
metadata are Python literals throughout) is read again line by line in Python, where what can be
repaired is repaired and counted. An array is held in memory as a whole.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as arrow_json

from bench.data.amazon.dialect import PLAIN, Dialect, open_text
from bench.data.amazon.streams import Repairs, check_share, line_blocks
from bench.data.amazon.tables import check_bytes, is_parquet
from bench.errors import DataError

BIGGEST = 2**62
BATCH = 1 << 16  # records of an array that make a table
_JSON = json.JSONDecoder(strict=False).decode


def json_tables(
    path: str | Path,
    fields: Mapping[str, pa.DataType],
    repairs: Repairs,
    wanted: tuple[str, Container[str]] | None = None,
    *,
    dialect: Dialect = PLAIN,
) -> Iterator[pa.Table]:
    """Named fields of every record, a table a block.

    Args:
        path: one record a line, or one array of records; plain or packed.
        fields: names to keep and their types, ``pa.string()`` or ``pa.int64()``. A value of another
            type becomes null, except that whole numbers and their decimal strings stand for each other,
            and that a block with fractions or texts among its ``pa.int64()`` has them all as strings.
        repairs: takes the counts of skipped lines and replaced bytes.
        wanted: a field, and the only values of it that matter; other records may be left out, which
            saves most of the work where Python has to read the lines.
        dialect: how the text is encoded.

    Raises:
        DataError: the file cannot be read, or more than one line in a hundred holds no record or bytes
            that are no text.
    """
    schema = pa.schema(list(fields.items()))
    if json_start(path, dialect) == "[":
        yield from _array_tables(Path(path), schema, repairs, dialect)
        return
    matters = _filter(wanted)
    lines = unreadable = 0
    example = ""
    stream = open_text(path, repairs, dialect)
    for first, block in line_blocks(path, stream=stream):
        table = _fast(block, schema)
        if table is None:
            rows, bad = _slow(first, _split(block), matters, schema, repairs)
            table = _table(rows, schema)
            unreadable += len(bad)
            example = example or next(iter(bad), "")
        lines += block.count(b"\n") + (not block.endswith(b"\n"))
        yield table
    repairs.count("lines hold no record and were skipped", unreadable, example)
    check_share(path, unreadable, lines, example)
    check_bytes(path, stream.bad_lines, lines, stream.example)


def json_start(path: str | Path, dialect: Dialect = PLAIN) -> str:
    """The bracket that JSON content starts with: ``{`` (records), ``[`` (an array), or nothing.

    Raises:
        DataError: no such file, or it is damaged.
    """
    if is_parquet(path):
        return ""
    with open_text(path, Repairs(), dialect) as stream:
        start = (
            stream.read(1 << 10)
            .removeprefix(b"\xef\xbb\xbf")
            .lstrip()[:1]
            .decode("ascii", "replace")
        )
    return start if start and start in "{[" else ""


def _array_tables(
    path: Path, schema: pa.Schema, repairs: Repairs, dialect: Dialect
) -> Iterator[pa.Table]:
    rows: list[dict[str, Any]] = []
    total = 0
    for total, record in enumerate(_entries(path, repairs, dialect), 1):
        if isinstance(record, dict):
            rows.append({f.name: coerce(record.get(f.name), f.type, repairs) for f in schema})
        else:
            repairs.count(NO_RECORDS, 1, f"entry {total}: {str(record)[:40]!r}")
        if len(rows) == BATCH:
            yield _table(rows, schema)
            rows = []
    yield _table(rows, schema)
    check_share(path, repairs.counts[NO_RECORDS], total, repairs.first.get(NO_RECORDS, ""))


NO_RECORDS = "entries of the array are no records and were skipped"


def _entries(path: Path, repairs: Repairs, dialect: Dialect) -> Iterator[Any]:
    with open_text(path, repairs, dialect) as stream:
        text = b"".join(iter(stream.read, b"")).decode().removeprefix("\ufeff")
    decoder, gap = json.JSONDecoder(strict=False), re.compile(r"[\s,]*")
    at = text.index("[") + 1
    while True:
        start = gap.match(text, at)
        at = start.end() if start else at
        if text.startswith("]", at):
            return
        try:
            record, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, at) + 1
            raise DataError(f"{path}, line {line}: no JSON array of records ({error})") from error
        yield record


def record_line(path: str | Path, row: int, dialect: Dialect = PLAIN) -> str:
    """The place of a record, counted from 0, in its file; slow, for messages.

    Raises:
        DataError: the file cannot be read.
    """
    if json_start(path, dialect) == "[":
        return f"entry {row + 1}"
    repairs = Repairs()
    for first, block in line_blocks(path, stream=open_text(path, repairs, dialect)):
        for number, raw in enumerate(_split(block), first):
            row -= bool(_record(raw))
            if row < 0:
                return f"line {number}"
    return "an unknown line"


def _fast(block: bytes, schema: pa.Schema) -> pa.Table | None:
    """Arrow's reading of a block, None if it objects to anything."""
    try:
        return arrow_json.read_json(
            pa.BufferReader(block),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowException:
        return None


def _filter(wanted: tuple[str, Container[str]] | None) -> Callable[[bytes], bool]:
    """Whether a line may hold a wanted record: never False for one that does.

    A value stands in its line as a quoted string behind its name; a line that shows only other values
    in that place, at whatever depth, can be passed over without being parsed.
    """
    if wanted is None:
        return lambda raw: True
    name, values = wanted
    place = rf"""['"]{re.escape(name)}['"]\s*:\s*"""
    # Only the quote that opens a value ends it. Both groups stay empty where no plain string stands.
    pattern = re.compile(rf"""{place}(?:u?'([^'\\]*)'|u?"([^"\\]*)")?""".encode())

    def matters(raw: bytes) -> bool:
        found = [single or double for single, double in pattern.findall(raw)]
        return not found or any(not v or v.decode("utf-8", "replace") in values for v in found)

    return matters


def _slow(
    first: int,
    block: list[bytes],
    matters: Callable[[bytes], bool],
    schema: pa.Schema,
    repairs: Repairs,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of a block line by line, and one description for each line without a record."""
    rows, bad = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes in literals are the publisher's affair
        for number, raw in enumerate(block, first):
            if not matters(raw):
                continue
            record = _record(raw)
            if record is None:
                bad.append(f"line {number}: {raw[:40]!r}")
            elif record:
                rows.append({f.name: coerce(record.get(f.name), f.type, repairs) for f in schema})
    return rows, bad


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    columns = {}
    for field in schema:
        column, kind = [row[field.name] for row in rows], field.type
        if pa.types.is_integer(kind) and any(isinstance(value, str) for value in column):
            column, kind = [None if value is None else str(value) for value in column], pa.string()
        columns[field.name] = pa.array(column, kind)
    return pa.table(columns)


def _split(block: bytes) -> list[bytes]:
    """Lines as newlines end them; ``splitlines`` would cut at form feeds inside a text as well."""
    return block.removesuffix(b"\n").split(b"\n")


def _record(raw: bytes) -> dict[str, Any] | None:
    """One line as a dictionary: empty for a blank line, None for anything else."""
    if not raw.strip():
        return {}
    text = raw.decode().strip()
    for parse in (ast.literal_eval, _JSON) if text.startswith("{'") else (_JSON, ast.literal_eval):
        try:
            record = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return record if isinstance(record, dict) and record else None
    return None


def coerce(value: Any, kind: pa.DataType, repairs: Repairs) -> Any:
    """A value as Arrow's string or int64 takes it, None where that is not possible.

    Fractions and texts where whole numbers are asked for stay, as text: they may be times.
    """
    if isinstance(value, bool) or value is None:
        return None
    if pa.types.is_integer(kind):
        if (whole := whole_number(value)) is not None:
            return whole
        if isinstance(value, float):
            return str(value) if math.isfinite(value) else None
    if isinstance(value, int) and abs(value) < BIGGEST:
        return str(value)
    if not isinstance(value, str):
        return None
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        repairs.count("texts held half a surrogate pair; it became U+FFFD", 1, ascii(value))
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def whole_number(value: Any) -> int | None:
    """The whole number in an int, a float or a decimal string; None for fractions and anything else."""
    if isinstance(value, str):
        text = value.strip()
        digits = text.removeprefix("-")
        value = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return value if isinstance(value, int) and abs(value) < BIGGEST else None
