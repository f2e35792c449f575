"""Records of a file of JSON lines, or of Python literals, as Arrow tables.

Whole blocks go through Arrow's parser. A block it refuses (one bad line is enough, and the 2014
metadata are Python literals throughout) is read again line by line in Python, where what can be
repaired is repaired and counted.
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

from bench.data.amazon.streams import Repairs, check_share, line_blocks

BIGGEST = 2**62
_JSON = json.JSONDecoder(strict=False).decode


def json_tables(
    path: str | Path,
    fields: Mapping[str, pa.DataType],
    repairs: Repairs,
    wanted: tuple[str, Container[str]] | None = None,
) -> Iterator[pa.Table]:
    """Named fields of every record, a table a block.

    Args:
        path: one record a line; plain, gzip, bzip2 or zip.
        fields: names to keep and their types, ``pa.string()`` or ``pa.int64()``. A value of another
            type becomes null, except that whole numbers and their decimal strings stand for each other,
            and that a block with fractions or texts among its ``pa.int64()`` has them all as strings.
        repairs: takes the counts of skipped lines and replaced bytes.
        wanted: a field, and the only values of it that matter; other records may be left out, which
            saves most of the work where Python has to read the lines.

    Raises:
        DataError: the file cannot be read, or more than one line in a hundred holds no record.
    """
    schema = pa.schema(list(fields.items()))
    matters = _filter(wanted)
    lines = unreadable = 0
    example = ""
    for first, block in line_blocks(path):
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


def _fast(block: bytes, schema: pa.Schema) -> pa.Table | None:
    """Arrow's reading of a block, None if it objects to anything."""
    try:
        table = arrow_json.read_json(
            pa.BufferReader(block),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
        table.validate(full=True)  # the parser lets bytes pass that are not UTF-8
        return table
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
            record = _record(raw, repairs)
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


def _record(raw: bytes, repairs: Repairs) -> dict[str, Any] | None:
    """One line as a dictionary: empty for a blank line, None for anything else."""
    if not raw.strip():
        return {}
    text = decode(raw, repairs).strip()
    for parse in (ast.literal_eval, _JSON) if text.startswith("{'") else (_JSON, ast.literal_eval):
        try:
            record = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return record if isinstance(record, dict) and record else None
    return None


def decode(raw: bytes, repairs: Repairs) -> str:
    """Text of a line; bytes that are no UTF-8 become U+FFFD, counted."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        repairs.count("lines held bytes that are not UTF-8; each became U+FFFD", 1, repr(raw[:40]))
        return raw.decode("utf-8", errors="replace")


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
