"""SHA-256 of files, which takes a while for many gigabytes: of a large file it is noted once a change.

A note is in the cache folder and counts as long as the file's size and time of change stay as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from bench.disk.sealed import read_note, write_note
from bench.errors import DamagedError

MIB = 1 << 20
LARGE = 4 * MIB  # bytes; smaller files are read anew each time
SETTLED_SECONDS = 2.0  # a file changed more recently may change again without its time moving


def cache_folder() -> Path:
    """Where downloads and what is made of them are kept: ``$BENCH_CACHE``, else ``~/.cache/msl-bench``."""
    return Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache" / "msl-bench")


def file_digest(path: Path, *, anew: bool = False) -> str:
    """SHA-256 of a file, hex; of a large one the digest of an earlier look if it has not changed since.

    Args:
        path: the file.
        anew: read every byte, whatever was noted.
    """
    facts = path.stat()
    if facts.st_size <= LARGE:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    asked = f"{path.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}"
    note = cache_folder() / "digests" / hashlib.sha256(asked.encode()).hexdigest()[:32]
    if not anew:
        with contextlib.suppress(OSError, DamagedError, KeyError):
            kept = read_note(note)
            if kept["of"] == asked:
                return str(kept["digest"])
    found = _read(path)
    if abs(time.time() - facts.st_mtime) > SETTLED_SECONDS:
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to stop
            write_note(note, {"of": asked, "digest": found})
    return found


def _read(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(MIB):
            found.update(part)
    return found.hexdigest()
