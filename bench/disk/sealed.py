"""Files that are checked when they are read: each ends with, or holds, the SHA-256 of what was written.

Whatever else is found there was changed since: by a disk, a cut-off copy or a hand. Such a file is never
used. It is set aside under another name, one line says so, and whoever needs it makes it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bench.disk.storage import write_whole, writing
from bench.errors import DamagedError

SEAL = 64  # hex digits of SHA-256
KEY = "sha256"  # under which a JSON file holds its seal
ASIDE = ".damaged-"  # in the name of what was set aside
log = logging.getLogger("bench.damage")


def digest_of(content: bytes, of: str = "") -> str:
    """SHA-256 of a file's content, hex.

    Args:
        content: the bytes.
        of: what the file belongs to, so that it does not pass for another one's.
    """
    return hashlib.sha256(of.encode() + b"\0" + content if of else content).hexdigest()


def owner(path: Path) -> str:
    """What a file in a cell's folder belongs to: its path from the cell's key on; else its last two names."""
    parts = path.parts
    after = parts.index("cells") + 1 if "cells" in parts else -2
    return "/".join(parts[after:])


def write_sealed(path: Path, content: bytes, *, of: str = "") -> None:
    """Write bytes with their checksum behind them, whole or not at all.

    Args:
        path: the file.
        content: what ``read_sealed`` returns.
        of: what the file belongs to; must be the same when it is read.
    """
    whole = content + digest_of(content, of).encode()
    write_whole(path, lambda part: part.write_bytes(whole), sync=True)


def read_sealed(path: Path, *, of: str = "") -> bytes:
    """The bytes that ``write_sealed`` wrote.

    Args:
        path: the file.
        of: as it was written.

    Raises:
        DamagedError: they are not those, or not of this owner.
        FileNotFoundError: there is no such file.
    """
    whole = _bytes(path)
    content, seal = whole[:-SEAL], whole[-SEAL:]
    if digest_of(content, of).encode() != seal:
        raise DamagedError(path, _state(whole))
    return content


def read_or_set_aside(path: Path, *, of: str = "") -> bytes | None:
    """The bytes that ``write_sealed`` wrote; None if there are none, and none that can be used.

    Args:
        path: the file; a damaged one is set aside.
        of: as it was written.
    """
    try:
        return read_sealed(path, of=of)
    except FileNotFoundError:
        return None
    except DamagedError as damage:
        set_aside(damage)
        return None


def seal_of(note: Mapping[str, Any]) -> str:
    """The seal of a mapping as JSON returns it."""
    return digest_of(_canonical(note))


def with_seal(note: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON-able mapping as JSON returns it (names are texts, tuples are lists), with its seal."""
    plain: dict[str, Any] = json.loads(json.dumps(note))
    return {**plain, KEY: seal_of(plain)}


def check_seal(note: Any) -> None:
    """Refuse a mapping with a seal that is not its own; one without a seal is of an earlier make.

    Raises:
        ValueError: it was changed after it was written.
    """
    if isinstance(note, Mapping) and KEY in note:
        plain = {name: value for name, value in note.items() if name != KEY}
        if note[KEY] != seal_of(plain):
            raise ValueError("it was changed after it was written")


def write_note(path: Path, note: Mapping[str, Any], *, sync: bool = False) -> None:
    """Write a JSON file with its seal, whole or not at all.

    Args:
        path: the file.
        note: what ``json`` can write; ``read_note`` returns it.
        sync: also wait until the disk has it.
    """
    text = json.dumps(with_seal(note), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"), sync=sync)


def read_note(path: Path, *, older: Collection[str] | None = None) -> dict[str, Any]:
    """What ``write_note`` wrote.

    Args:
        path: the file.
        older: the keys of a file of an earlier make, which had no seal; None if there are none such.

    Raises:
        DamagedError: the file is not as it was written.
        FileNotFoundError: there is no such file.
    """
    content = _bytes(path)
    try:
        note = dict(json.loads(content))
    except (ValueError, TypeError, RecursionError) as fault:
        raise DamagedError(path, _state(content)) from fault
    if older is not None and set(note) == set(older):
        return note
    if note.pop(KEY, None) != seal_of(note):
        raise DamagedError(path, _state(content))
    return note


def set_aside(damage: DamagedError) -> None:
    """Rename what is damaged, so that it is kept but never found again, and say so in one line.

    Raises:
        StorageError: it cannot be renamed.
    """
    path = damage.path
    number, goal = 1, path
    while os.path.lexists(goal):
        goal = path.with_name(f"{path.name}{ASIDE}{number}")
        number += 1
    try:
        with writing(goal):
            path.rename(goal)
    except FileNotFoundError:  # another process was faster
        return
    log.warning("%s: %s; kept as %s and made again", path, damage.why, goal.name)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError as fault:
        raise DamagedError(path, "a folder lies where a file was") from fault


def _state(content: bytes) -> str:
    return "damaged (its bytes are not those that were written)" if content else "empty"


def _canonical(note: Mapping[str, Any]) -> bytes:
    text = json.dumps(note, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")
