"""What disks, copies and hands do to a file, on request: for tests and for the table of faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def flip(path: Path) -> None:
    """Turn one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Lose the second half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    """Lose all of a file but its name."""
    path.write_bytes(b"")


def replace(path: Path) -> None:
    """Put other bytes of the same number in the place of a file's own."""
    path.write_bytes(b"x" * path.stat().st_size)


HARMS: dict[str, Callable[[Path], None]] = {
    "flip": flip,
    "cut": cut,
    "empty": empty,
    "replace": replace,
}
