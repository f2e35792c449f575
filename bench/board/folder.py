"""A folder of tables: a manifest of what the suite wrote there decides what it may replace or remove.

The manifest names each file with the SHA-256 of its content. While files are being replaced it holds the old
and the new content of each, so whatever a cut-off write leaves is known to the next one. A lock keeps two
writers of one folder apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from bench.disk.storage import writing
from bench.errors import ConfigError
from bench.results.row_files import rows_under

MANIFEST = ".bench-manifest.json"
LOCK = ".cache/tables.lock"
FIXED = ("README.md", "index.html")  # what every folder of tables has
Known = dict[str, list[str]]  # by relative path, the contents that are ours


def check_ours(out: Path) -> None:
    """Refuse a folder that holds files and that the suite did not make; writes nothing.

    Ours are a folder that is missing or holds no files, one with a manifest, and one whose ``rows`` holds
    rows.

    Raises:
        ConfigError: names a file that is there.
    """
    if not out.is_dir() or (out / MANIFEST).exists() or any(rows_under(out / "rows")):
        return
    # left by a writer that was cut off before the manifest was there
    ours = {out / LOCK, _partial(out / MANIFEST)}
    files = (path for path in sorted(out.rglob("*")) if not path.is_dir() and path not in ours)
    there = next(files, None)
    if (
        there is not None and not (out / MANIFEST).exists()
    ):  # another writer may have begun just now
        raise ConfigError(
            f"--out {out}: the suite did not make this folder and it is not empty "
            f"({there.relative_to(out)}); give another --out, or an empty folder"
        )


def claim(out: Path) -> None:
    """Make a folder the suite's own, before anything else is written to it.

    Raises:
        ConfigError: it is not empty and not ours, or its files are not as the suite wrote them.
        StorageError: nothing can be written there.
    """
    check_ours(out)
    with _alone(out):
        known = _read(out)
        for name in sorted({*known, *FIXED}):
            _check_known(out, name, known.get(name, ()))
        if not (out / MANIFEST).exists():
            _write_manifest(out, {})


def replace_files(out: Path, files: Mapping[str, str]) -> list[Path]:
    """Make some texts the suite's files in a folder, and remove those that it wrote there before.

    Args:
        out: the folder.
        files: by path relative to it, everything the suite is to have there.

    Returns:
        The files, sorted.

    Raises:
        ConfigError: the folder is not ours, or a file to be replaced or removed is not as we wrote it.
        StorageError: nothing can be written there.
    """
    check_ours(out)
    content = {name: text.encode() for name, text in files.items()}
    with _alone(out):
        old = _read(out)
        new = {name: [_sha(data)] for name, data in content.items()}
        for name in sorted({*old, *new}):
            _check_known(out, name, [*old.get(name, ()), *new.get(name, ())])
        both = {name: sorted({*old.get(name, ()), *new.get(name, ())}) for name in {*old, *new}}
        if old != both:
            _write_manifest(out, both)
        for name in sorted(content):
            _write(out / name, content[name])
        for name in sorted(old.keys() - new.keys()):
            _remove(out, out / name)
        if both != new:
            _write_manifest(out, new)
    return [out / name for name in sorted(content)]


def strangers(out: Path) -> list[Path]:
    """The files among the tables of a folder that the suite did not write; they are left alone."""
    known = _read(out)
    found = (path for path in sorted((out / "tables").rglob("*")) if not path.is_dir())
    return [path for path in found if path.relative_to(out).as_posix() not in known]


def _read(out: Path) -> Known:
    path = out / MANIFEST
    try:
        known: Known = json.loads(path.read_text(encoding="utf-8"))["files"]
        for name, hashes in known.items():
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts or not isinstance(hashes, list):
                raise ValueError(name)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ConfigError(
            f"{path}: not a list of the suite's files; restore it, or give another folder (--out)"
        ) from fault
    except FileNotFoundError:
        return {}
    return known


def _write_manifest(out: Path, known: Known) -> None:
    text = json.dumps({"files": known}, indent=1, sort_keys=True, ensure_ascii=False)
    _write(out / MANIFEST, f"{text}\n".encode())


def _check_known(out: Path, name: str, hashes: Iterable[str]) -> None:
    path = out / name
    folders = [out / folder for folder in PurePosixPath(name).parents]
    wrong = next((one for one in folders if one.exists() and not one.is_dir()), None)
    if wrong is None and (path.exists() or path.is_symlink()):
        plain = path.is_file() and not path.is_symlink()
        wrong = None if plain and _sha(path.read_bytes()) in hashes else path
    if wrong is not None:
        raise ConfigError(
            f"{wrong}: not as the suite wrote it, so it is not touched; move it away, or give another --out"
        )


def _partial(path: Path) -> Path:
    """The name a file has while it is written, always the same: the next writer replaces or removes it."""
    return path.with_name(f".{path.name}.bench-part")


def _write(path: Path, content: bytes) -> None:
    partial = _partial(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)


def _remove(out: Path, path: Path) -> None:
    """Remove a file, what a cut-off write of it left, and the folders that are empty after it."""
    with writing(path):
        for one in (path, _partial(path)):
            one.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == out or not folder.is_dir() or any(folder.iterdir()):
            break
        folder.rmdir()


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock of a folder, which the kernel releases when its process ends."""
    path = out / LOCK
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
