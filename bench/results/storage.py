"""Faults of the disk itself, full or read-only: they are no result of a cell, and no trace helps."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from bench.errors import StorageError

REMEDIES = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota is used up; make room",
    errno.EROFS: "the file system is read-only; mount it for writing",
}
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
    except OSError as fault:
        remedy = (REMEDIES | RIGHTS).get(fault.errno or 0)
        if remedy is None or isinstance(fault, StorageError):
            raise
        raise StorageError(f"{path} cannot be written: {remedy}, {GO_ON}") from fault


def storage_fault(fault: BaseException) -> StorageError | None:
    """The fault of the disk behind an exception, which a library may have put into words of its own."""
    if isinstance(fault, StorageError):
        return fault
    number = fault.errno if isinstance(fault, OSError) else None
    text = str(fault).lower()
    if "no space left on device" in text:
        number = errno.ENOSPC
    if "disk quota exceeded" in text:
        number = errno.EDQUOT
    if number not in REMEDIES:
        return None
    name = getattr(fault, "filename", None) or "a file"
    return StorageError(f"{name} cannot be written: {REMEDIES[number]}, {GO_ON}")
