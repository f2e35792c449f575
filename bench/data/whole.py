"""A folder of data that is written whole or not at all, with a list of its files and their checksums."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.disk.manifest import MANIFEST, check_folder, is_sealed, seal_folder
from bench.errors import DamagedError, DataError


def check_free(folder: Path) -> None:
    """Refuse a folder that somebody uses.

    Raises:
        DataError: it is there and holds something, or is no folder.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder):
        raise DataError(f"{folder} is already there; choose another name or place, or remove it")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder beside the one wanted, to be written to; it takes its place when all went well.

    Raises:
        DataError: the place is taken, or cannot be written; nothing is left then.
    """
    check_free(folder)
    part = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    try:
        part.mkdir(parents=True)
        yield part
        seal_folder(part)
        if folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}); nothing is left of it, make room "
            "or choose another place"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_whole(folder: Path) -> None:
    """Refuse a folder that ``written_whole`` wrote and that was changed since; any other is passed over.

    Raises:
        DataError: names the file that differs, and what to do.
    """
    if not is_sealed(folder):
        return
    try:
        check_folder(folder, moved=True)
    except DamagedError as damage:
        raise DataError(
            f"{folder}: {damage.why}; move the folder away and import the data again, or delete "
            f"{folder / MANIFEST} to take the files as they are now"
        ) from damage
