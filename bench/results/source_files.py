"""The files that a source file imports, directly or not, found by reading the text; nothing is imported.

For files of this repository these are the files of ROOMS. For others (a plugin, an entry point) the files
that they import from their own folder or package are included. Imports under names that are made at run time
are not found.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.registry import HOUSE

ROOMS = ("baselines", "llmrec")
SHARED = ("site-packages", "dist-packages")  # neighbours there are strangers to each other


@dataclass(frozen=True)
class _Home:
    """Folders in which the imports of a file from outside this repository are looked for.

    Attributes:
        beside: the folder of the first file; None where everybody's packages lie.
        package: folder of its top-level package; None if it is in none.
    """

    beside: Path | None = None
    package: Path | None = None

    @classmethod
    def of(cls, start: Path) -> _Home:
        """The folders for a file; none for a file of this repository."""
        if in_house(start):
            return cls()
        package = None
        folder = start.parent
        while (folder / "__init__.py").is_file():
            package, folder = folder, folder.parent
        beside = None if start.parent.name in SHARED else start.parent
        return cls(beside, package)


def closure(start: Path) -> set[Path]:
    """The file and all it imports from ROOMS and its own home, directly or not, in functions too."""
    home = _Home.of(start)
    seen: set[Path] = set()
    queue = [start]
    while queue:
        path = queue.pop()
        if path not in seen:
            seen.add(path)
            queue.extend(_imports(path, home))
    return seen


@cache
def imported_names(path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere; of ``from a import b`` both ``a`` and ``a.b``.

    Relative imports are left out: they name no package of others.
    """
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def forget() -> None:
    """Empty the cache, so that files are read anew."""
    for kept in (imported_names, tree, _imports):
        kept.cache_clear()


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(path: Path, home: _Home) -> tuple[Path, ...]:
    found = {file for name in imported_names(path) for file in _files(name, path, home)}
    return tuple(sorted(found.union(_relative(path))))


def _files(module: str, asker: Path, home: _Home) -> Iterator[Path]:
    parts = module.split(".")
    if parts[0] in ROOMS:
        yield from _at(HOUSE.joinpath(*parts))
    elif parts[0] != "bench" and not in_house(asker):
        bases = [home.beside] if home.beside else []
        if home.package is not None and parts[0] == home.package.name:
            bases.append(home.package.parent)
        for base in bases:
            for n in range(1, len(parts) + 1):  # importing a.b runs a too
                yield from _at(base.joinpath(*parts[:n]))


def _relative(path: Path) -> Iterator[Path]:
    """The files behind ``from . import a`` and ``from ..b import c``."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1]
            base = base.joinpath(*(node.module or "").split("."))
            for place in (base, *(base / alias.name for alias in node.names)):
                yield from _at(place)


def _at(base: Path) -> Iterator[Path]:
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if path.is_file():
            yield path


def in_house(path: Path) -> bool:
    """Whether a file belongs to this repository."""
    return any(path.is_relative_to(HOUSE / room) for room in ("bench", *ROOMS))
