"""``bench list``: every name that can be used, without importing what is behind it."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.registry import HOUSE, Registry, datasets, decoders, load_plugin, losses, methods
from bench.results.source_files import tree

KINDS: dict[str, Registry[Any]] = {
    "methods": methods,
    "losses": losses,
    "decoders": decoders,
    "datasets": datasets,
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "list", help="methods, losses, decoders, datasets, suites", description=__doc__
    )
    parser.add_argument("kind", nargs="?", choices=[*KINDS, "suites"], help="only this kind")
    parser.add_argument("--plugin", action="append", default=[], help="a file that registers more")
    parser.set_defaults(func=main)


def main(options: argparse.Namespace) -> int:
    """Print the names."""
    for plugin in options.plugin:
        load_plugin(plugin)
    for kind, registry in KINDS.items():
        if options.kind in (None, kind):
            _print(kind, {name: _about(registry.path(name), name) for name in registry.names()})
    if options.kind in (None, "suites"):
        folder = HOUSE / "bench/experiment/suites"
        paths = [p for p in sorted(folder.glob("*.yaml")) if not p.stem.startswith("_")]
        _print("suites", {p.stem: _title(p) for p in paths})
    return 0


def _print(kind: str, lines: dict[str, str]) -> None:
    print(f"{kind}:")
    width = max(map(len, lines), default=0)
    for name, about in lines.items():
        print(f"  {name:<{width}}  {about}")
    print()


def _title(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("title:").strip()


def _about(path: Path, name: str) -> str:
    """Family (if it is a method) and first line of the docstring of what is registered as ``name``."""
    for node in tree(path).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and _registers(node, name):
            text = (ast.get_docstring(node) or "").partition("\n")[0]
            family = _family(path, node.name)
            return f"{family:<12} {text}" if family else text
    return ""


def _assigned(node: ast.ClassDef) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Targets and values of a class body's assignments, also of ``a, b = 1, 2`` and ``a: int = 1``."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and line.value is not None:
            yield line.target, line.value
        elif isinstance(line, ast.Assign):
            for target in line.targets:
                if isinstance(target, ast.Tuple) and isinstance(line.value, ast.Tuple):
                    yield from zip(target.elts, line.value.elts, strict=False)
                else:
                    yield target, line.value


def _file(module: str) -> Path:
    return HOUSE / (module.replace(".", "/") + ".py")


def _registers(node: ast.ClassDef | ast.FunctionDef, name: str) -> bool:
    for decorator in node.decorator_list:
        words = decorator.args if isinstance(decorator, ast.Call) else []
        if any(isinstance(word, ast.Constant) and word.value == name for word in words):
            return True
    return False


def _family(path: Path, name: str) -> str:
    """What a class, or the nearest of its bases within the house, sets ``family`` to."""
    body = tree(path).body
    node = next((n for n in body if isinstance(n, ast.ClassDef) and n.name == name), None)
    if node is None:
        return ""
    for target, value in _assigned(node):
        if (
            isinstance(value, ast.Constant)
            and isinstance(target, ast.Name)
            and target.id == "family"
        ):
            return str(value.value)
    origin = {
        alias.asname or alias.name: (_file(line.module), alias.name)
        for line in body
        if isinstance(line, ast.ImportFrom) and line.module
        for alias in line.names
    }
    for base in node.bases:
        if isinstance(base, ast.Name):
            where, known_as = origin.get(base.id, (path, base.id))
            if where.is_file() and (found := _family(where, known_as)):
                return found
    return ""
