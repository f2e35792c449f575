"""A cache of computed numbers on disk, which may be deleted at any moment.

The name of a file is made of checksums of everything it was computed from, so a stale file is never read. A
file that is not as it was written, under this name, counts as missing and is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.disk.sealed_arrays import read_npz, sealed_npz
from bench.disk.storage import write_whole
from bench.errors import DamagedError
from bench.evaluation.metrics import metrics
from bench.registry import HOUSE

# whatever may change a number that is kept: a change to any of these files empties the cache
SOURCES = (
    "bench/evaluation",
    "bench/significance",
    "bench/results",
    "bench/board/leaderboard.py",
    "bench/board/table_numbers.py",
    "bench/cell.py",
)


class Cache:
    """Named sets of arrays in one folder.

    Args:
        folder: where; made when something is first kept. None to keep nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._used: set[Path] = set()

    @classmethod
    def beside(cls, rows: Path) -> Cache:
        """The cache of a folder of rows: ``leaderboards/.cache/rows`` for ``leaderboards/rows``."""
        return cls(rows.parent / ".cache" / rows.name)

    def load(self, name: str) -> dict[str, Any] | None:
        """The arrays that were kept under a name; None if there are none, or they cannot be read."""
        if self.folder is None:
            return None
        with contextlib.suppress(OSError, DamagedError):
            return read_npz(self._path(name), of=name)
        return None

    def save(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Keep arrays under a name; does nothing where the folder cannot be written to.

        Args:
            name: from ``key_of``.
            arrays: what ``load`` returns later.
        """
        if self.folder is None:
            return

        content = sealed_npz(arrays, of=name, compress=False)
        with contextlib.suppress(OSError):
            write_whole(self._path(name), lambda part: part.write_bytes(content))

    def forget_unused(self) -> None:
        """Delete the files that were neither read nor written since this cache was opened."""
        if self.folder is not None:
            for path in self.folder.glob("*.npz"):
                if path not in self._used:
                    path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        assert self.folder is not None, "a cache without a folder keeps nothing"
        path = self.folder / f"{name}.npz"
        self._used.add(path)
        return path


def key_of(parts: Iterable[str]) -> str:
    """A name for what was computed from these checksums by the code and the metrics of this moment."""
    files = {str(metrics.path(name)) for name in metrics}
    whole = "\n".join([_code(tuple(sorted(files))), *parts])
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


@cache
def _code(metric_files: tuple[str, ...]) -> str:
    """Checksum of the code that numbers come from, metrics of plugins and numerical libraries included."""
    found = hashlib.sha256()
    paths = [HOUSE / name for name in SOURCES]
    files = [p for path in paths for p in (sorted(path.rglob("*.py")) or [path])]
    for path in [*files, *map(Path, metric_files)]:
        found.update(os.fsencode(path.name) + path.read_bytes())
    for package in ("numpy", "scipy"):
        found.update(importlib.metadata.version(package).encode())
    return found.hexdigest()
