"""An append-only file of JSON lines that survives being cut off in the middle of a line.

Each line holds its own checksum. One that is not as it was written counts as not there, so that what it said
is made again; it stays in the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.disk.sealed import KEY, check_seal, log, with_seal


def read(path: Path) -> list[dict[str, Any]]:
    """All complete lines; an unfinished last line is ignored. A file that is not there has none."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    # not splitlines of the text: it also cuts at U+2028 and its like, which titles may hold
    lines = [_whole_line(line) for line in whole.split(b"\n") if line.strip()]
    found = [line for line in lines if line is not None]
    if len(found) < len(lines):
        log.warning("%s: %d damaged lines; made again", path, len(lines) - len(found))
    return found


def _whole_line(line: bytes) -> dict[str, Any] | None:
    try:
        said: dict[str, Any] = json.loads(line)
        check_seal(said)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    said.pop(KEY, None)
    return said


def append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append lines to a file and flush them to disk; an unfinished last line is removed first.

    Args:
        path: the file.
        lines: one mapping each.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(with_seal(line), ensure_ascii=False) + "\n" for line in lines)
    with path.open("ab+") as file:
        _cut_unfinished(file)
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def _cut_unfinished(file: Any) -> None:
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)
