"""Hash of the source a method runs: its file and every file of ours that it imports, found statically.

Comments, docstrings and layout do not count, so explaining code better makes no row stale. ``bench``
itself is left out: what of it decides a result is versioned as the protocol.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench.registry import HOUSE, decoders, losses, methods

ROOMS = ("baselines", "llmrec")


def code_of(method: str, *, loss: str | None = None, decoder: str | None = None) -> str:
    """Fingerprint of a method with its loss and decoder, 16 hex digits."""
    starts = [methods.path(method)]
    if loss is not None and loss in losses:
        starts.append(losses.path(loss))
    if decoder is not None and decoder in decoders:
        starts.append(decoders.path(decoder))
    files: set[Path] = set()
    for start in starts:
        files |= closure(start)
    parts = sorted((_shown(path), _normal_form(path)) for path in files)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def closure(start: Path) -> set[Path]:
    """The file and every file under ROOMS that it imports, directly or not, in functions too."""
    seen: set[Path] = set()
    queue = [start]
    while queue:
        path = queue.pop()
        if path not in seen:
            seen.add(path)
            queue.extend(_imports(path))
    return seen


def _shown(path: Path) -> str:
    return str(path.relative_to(HOUSE)) if path.is_relative_to(HOUSE) else path.name


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return tuple(sorted({p for name in names for p in _files(name)}))


def _files(module: str) -> Iterator[Path]:
    parts = module.split(".")
    if parts[0] not in ROOMS:
        return
    base = HOUSE.joinpath(*parts)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            yield path


@cache
def _normal_form(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    return ast.dump(tree)


def _is_text(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
