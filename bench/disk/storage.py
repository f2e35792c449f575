"""Files written whole or not at all, and faults of the disk itself, which are no result of a cell.

A full or read-only disk ends a command with one line, and no trace helps.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.errors import StorageError

REMEDIES = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota is used up; make room",
    errno.EROFS: "the file system is read-only; mount it for writing",
    errno.EFBIG: "files may not grow that large; raise the limit (ulimit -f)",
}
# what numpy, torch and safetensors say of a disk that takes no more, without its error number
SAID = {
    "no space left on device": errno.ENOSPC,
    "disk quota exceeded": errno.EDQUOT,
    "file too large": errno.EFBIG,
    "pytorchstreamwriter failed writing": errno.ENOSPC,
}
SHORT = re.compile(r"^\d+ requested and \d+ written$")
RIGHTS = {code: "no right to write there; ask for it" for code in (errno.EACCES, errno.EPERM)}
GO_ON = "then run the same command again: what was finished is kept"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the path and the way out if the disk refuses what the body writes.

    Raises:
        StorageError: full, over quota, read-only, or not ours to write.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as fault:
        remedy = (REMEDIES | RIGHTS).get(_number(fault))
        if remedy is None:
            raise
        raise StorageError(f"{path} cannot be written: {remedy}, {GO_ON}") from fault


def storage_fault(fault: BaseException) -> StorageError | None:
    """The fault of the disk behind an exception, which a library may have put into words of its own."""
    if isinstance(fault, StorageError):
        return fault
    number = _number(fault)
    if number not in REMEDIES:
        return None
    name = getattr(fault, "filename", None) or "a file"
    return StorageError(f"{name} cannot be written: {REMEDIES[number]}, {GO_ON}")


def _number(fault: BaseException) -> int:
    """The error number of a fault of the disk, 0 for any other fault."""
    if isinstance(fault, OSError) and fault.errno:
        return fault.errno
    text = str(fault).lower()
    if SHORT.match(text):
        return errno.ENOSPC
    return next((number for words, number in SAID.items() if words in text), 0)


def write_whole(path: Path, write: Callable[[Path], object], *, sync: bool = False) -> None:
    """Write a file completely or not at all: to a temporary file first, which then takes the final name.

    Args:
        path: the final name.
        write: fills the temporary file it is given.
        sync: also wait until the disk has it, so that a power cut leaves the old file or the new one.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(handle)
        part = Path(name)
        try:
            write(part)
            part.chmod(0o644)
            if sync:
                flush(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_json(path: Path, thing: Any, *, sync: bool = False) -> None:
    """Write a JSON file completely or not at all.

    Args:
        path: the file.
        thing: what ``json`` can write.
        sync: as for ``write_whole``.
    """
    text = json.dumps(thing, indent=1, sort_keys=True, ensure_ascii=False)

    def fill(part: Path) -> None:
        part.write_text(text + "\n", encoding="utf-8")

    write_whole(path, fill, sync=sync)


def flush(path: Path) -> None:
    """Wait until the disk has a file, or all files of a folder."""
    for one in path.rglob("*") if path.is_dir() else [path]:
        if one.is_file():
            handle = os.open(one, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
