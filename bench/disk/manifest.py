"""The manifest of a folder: size and SHA-256 of each file, written last and checked before any is used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bench.disk.digests import file_digest
from bench.disk.sealed import ASIDE, owner, read_note, write_note
from bench.disk.storage import flush, writing
from bench.errors import DamagedError

MANIFEST = (
    ".bench-files.json"  # hidden, so that it counts for no content of a model and for no reader
)
Files = dict[str, dict[str, Any]]


def files_in(folder: Path) -> Files:
    """Size (bytes) and digest of each file under a folder by its relative path; hidden ones left out."""
    return {
        name: {
            "bytes": (folder / name).stat().st_size,
            "sha256": file_digest(folder / name, anew=True),
        }
        for name in sorted(_names(folder))
    }


def seal_folder(folder: Path) -> None:
    """Write the manifest of a folder, after everything in it has reached the disk.

    Raises:
        StorageError: the disk is full or may not be written.
    """
    with writing(folder):
        flush(folder)
    note = {"of": owner(folder), "files": files_in(folder)}
    write_note(folder / MANIFEST, note, sync=True)


def is_sealed(folder: Path) -> bool:
    """Whether a folder has a manifest, and so was finished."""
    return (folder / MANIFEST).is_file()


def check_folder(folder: Path, *, anew: bool = False, moved: bool = False) -> None:
    """Compare a folder with its manifest.

    Args:
        folder: with a manifest.
        anew: read every byte even of large files that have been looked at before.
        moved: whether it may lie elsewhere than where it was written.

    Raises:
        DamagedError: a file, or the manifest itself, is not as it was written.
        FileNotFoundError: there is no manifest.
    """
    try:
        note = read_note(folder / MANIFEST)
    except DamagedError as damage:
        raise DamagedError(folder, f"its list of files is {damage.why}") from damage
    if not moved and note["of"] != owner(folder):
        raise DamagedError(folder, f"it was written as {note['of']}")
    check_files(folder, note["files"], anew=anew)


def check_files(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    *,
    anew: bool = False,
    besides: Collection[str] | None = None,
) -> None:
    """Compare the files of a folder with what ``files_in`` found when they were written.

    Args:
        folder: the folder.
        files: what ``files_in`` returned.
        anew: as for ``check_folder``.
        besides: the only further files that may be there; None for any.

    Raises:
        DamagedError: names the first file that differs.
    """
    for name, facts in files.items():
        path = folder / name
        if not path.is_file():
            raise DamagedError(folder, f"{name} is missing")
        if not path.stat().st_size and facts["bytes"]:
            raise DamagedError(folder, f"{name} is empty")
        if path.stat().st_size != facts["bytes"]:
            said = f"{name} has {path.stat().st_size:,} bytes, {facts['bytes']:,} were written"
            raise DamagedError(folder, said)
        if file_digest(path, anew=anew) != facts["sha256"]:
            raise DamagedError(folder, f"{name} has other bytes than were written")
    if besides is not None and (more := _names(folder) - {*files, *besides}):
        raise DamagedError(folder, f"{min(more)} was not written with the others")


def _names(folder: Path) -> set[str]:
    """What was written: no hidden file, none that was set aside or that Python made on the way."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        name.as_posix()
        for name in names
        if not any(p.startswith((".", "__pycache__")) or ASIDE in p for p in name.parts)
    }
