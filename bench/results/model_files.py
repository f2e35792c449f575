"""What a model on this machine holds, as a digest of its files: a name alone does not say which weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.disk import digests


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
        whole.update(
            path.read_bytes() if size <= digests.LARGE else digests.file_digest(path).encode()
        )
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
