"""Text files read whole or refused with the line, and the words for saying so."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

from bench.errors import DataError


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked if they are gzip.

    Raises:
        DataError: there is no such file, or it is a damaged or cut-off gzip file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path}: damaged or cut-off gzip file ({error}); fetch it again"
        ) from error


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, plain or gzip, without a byte order mark.

    Raises:
        DataError: as ``read_bytes``, or the bytes are not UTF-8 (with the line).
    """
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}); "
            "save the file as UTF-8"
        ) from error


def row_error(path: Path, line: int | str, fault: str) -> DataError:
    """The error for a fault on one line of a file."""
    return DataError(f"{path}, line {line}: {fault}")


def short(thing: Any) -> str:
    """A value as a message may show it: escaped, at most 60 characters."""
    text = repr(thing)
    return text if len(text) <= 60 else f"{text[:57]}..."


def some(ids: list[int]) -> str:
    """The first three of a list, for a message."""
    return ", ".join(map(str, ids[:3])) + (" ..." if len(ids) > 3 else "")


def data_root(root: Path | None = None) -> Path:
    """Where datasets lie: the argument, else ``BENCH_DATA``, else the cache ``data get`` fills."""
    if root is not None:
        return root
    if os.environ.get("BENCH_DATA"):
        return Path(os.environ["BENCH_DATA"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "msl-bench" / "data"
