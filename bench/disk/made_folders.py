"""Folders of the cache that are made once, such as an unpacked model: whole, checked, renewed if damaged."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.disk.digests import cache_folder
from bench.disk.manifest import check_folder, is_sealed, seal_folder
from bench.disk.sealed import set_aside
from bench.disk.storage import writing
from bench.errors import DamagedError


def made_once(name: str, make: Callable[[Path], Path]) -> Path:
    """A folder of the cache, made by the first call. Safe to call from several processes at once.

    One that an earlier version made has no manifest; it is taken as it is and gets one.

    Args:
        name: of the folder.
        make: fills a scratch folder and returns the folder in it that is wanted.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    from filelock import FileLock

    made = cache_folder() / name
    if is_sealed(made) and _is_whole(made):
        return made
    with writing(made):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with FileLock(str(cache_folder() / f"{name}.lock")):
            # another process may have made it while this one waited for the lock
            _look(made)
            if not made.is_dir():
                # a rename is atomic, so a killed process leaves no half-made folder behind
                with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="unpack-") as scratch:
                    ready = make(Path(scratch))
                    seal_folder(ready)
                    ready.rename(made)
    return made


def _look(made: Path) -> None:
    """Set a damaged folder aside; give one without a manifest its own, as far as the disk allows."""
    if not made.is_dir():
        return
    if is_sealed(made):
        try:
            check_folder(made, moved=True)
        except DamagedError as damage:
            set_aside(damage)
        return
    with contextlib.suppress(OSError):
        seal_folder(made)


def _is_whole(made: Path) -> bool:
    try:
        check_folder(made, moved=True)
    except DamagedError:
        return False
    return True
