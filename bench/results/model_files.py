"""What a model on this machine holds, as a digest of its files: a name alone does not say which weights.

Hashing a checkpoint of many gigabytes takes a while, so the digest of a large file is kept in the cache
folder and counts as long as the file's size and time of change stay as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.results.store import write_json

MIB = 1 << 20
LARGE = 4 * MIB  # bytes; smaller files are read anew each time
SETTLED_SECONDS = 2.0  # a file changed more recently may change again without its time moving


@cache
def model_content(name: str) -> str:
    """Digest of the files of a model on this machine; empty if the name is not a folder or file with one.

    Every byte counts. Of a large file whose size and time of change (ns) are those of an earlier look, the
    digest of that look is taken.
    """
    place = Path(name)
    try:
        files = _files(place) if name else []  # an empty name is none, not this folder
    except (OSError, ValueError):  # a text too long for a path, or with a zero byte in it
        return ""
    whole = hashlib.sha256()
    for path in files:
        shown = path.name if path == place else path.relative_to(place).as_posix()
        size = path.stat().st_size
        whole.update(f"{shown} {size}\n".encode())
        whole.update(path.read_bytes() if size <= LARGE else _large(path).encode())
    return whole.hexdigest() if files else ""


def forget() -> None:
    """Empty the cache in memory, so that files of models are looked at anew."""
    model_content.cache_clear()


def models_in(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Dotted name and ``model_content`` of every text in a configuration that names a model here."""
    todo: list[tuple[str, Any]] = list(config.items())
    while todo:
        name, value = todo.pop()
        if isinstance(value, Mapping):
            todo += [(f"{name}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            todo += [(f"{name}.{i}", inner) for i, inner in enumerate(value)]
        elif isinstance(value, str) and (content := model_content(value)):
            yield name, content


def _files(place: Path) -> list[Path]:
    if place.suffix == ".gguf" and place.is_file():
        return [place]
    if not (place / "config.json").is_file():
        return []
    return sorted(p for p in place.rglob("*") if p.is_file() and not p.name.startswith("."))


def _large(path: Path) -> str:
    """SHA-256 of a file, hex, from the cache folder if it was taken before."""
    facts = path.stat()
    asked = f"{path.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}"
    kept = cache_folder() / "digests" / hashlib.sha256(asked.encode()).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError):
        return str(json.loads(kept.read_text(encoding="utf-8")))
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(MIB):
            found.update(part)
    if time.time() - facts.st_mtime > SETTLED_SECONDS:
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to stop
            write_json(kept, found.hexdigest())
    return found.hexdigest()


def cache_folder() -> Path:
    """Where downloads and what is made of them are kept: ``$BENCH_CACHE``, else ``~/.cache/msl-bench``."""
    return Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache" / "msl-bench")
