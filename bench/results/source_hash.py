"""Hash of the source that a method runs: its file and all files it imports, see ``source_files``.

A fact of the row, shown as "code changed since" where it differs from what is here; no part of its identity.
Comments, docstrings and layout do not count, nor where a file lies. ``bench`` itself is left out: what of it
decides a result is versioned as the protocol.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.registry import decoders, losses, methods
from bench.results import source_files
from bench.results.source_files import ROOMS, closure, imported_names, in_house

TUNE = "tune"  # the one method whose configuration names another
Tuned = tuple[str, str | None, str | None] | None


def code_of(
    method: str,
    loss: str | None = None,
    decoder: str | None = None,
    *,
    config: Mapping[str, Any] | None = None,
) -> str:
    """Hash of the source behind a method with its loss and decoder, 16 hex digits.

    The same under every Python.

    Args:
        method: its registered name.
        loss: a registered loss, or one that only this method knows.
        decoder: its registered name.
        config: the method's configuration; a search names there what it tunes, whose source counts too.
    """
    return _code(method, loss, decoder, _tuned(method, config))


def own_content(path: Path) -> str:
    """Hash of a file from outside this repository and of the files it imports there, 16 hex digits."""
    return _hash(file for file in closure(path) if not in_house(file))


def _hash(files: Iterable[Path]) -> str:
    return hashlib.sha256(repr(sorted(map(_normal_form, files))).encode()).hexdigest()[:16]


def libraries(
    method: str,
    loss: str | None = None,
    decoder: str | None = None,
    *,
    config: Mapping[str, Any] | None = None,
) -> frozenset[str]:
    """Third-party packages that the source of a method, its loss and its decoder imports.

    The source is read as text; nothing is imported.

    Args:
        method: its registered name.
        loss: a registered loss, or one that only this method knows.
        decoder: its registered name.
        config: the method's configuration; a search names there what it tunes.
    """
    return _libraries(method, loss, decoder, _tuned(method, config))


def _tuned(method: str, config: Mapping[str, Any] | None) -> Tuned:
    """The method that a search tunes; None for any other method."""
    if method != TUNE or not config:
        return None
    return config["method"], config.get("loss"), config.get("decoder")


@cache
def _code(method: str, loss: str | None, decoder: str | None, tuned: Tuned) -> str:
    return _hash(_files_of(method, loss, decoder, tuned))


@cache
def _libraries(method: str, loss: str | None, decoder: str | None, tuned: Tuned) -> frozenset[str]:
    files = _files_of(method, loss, decoder, tuned)
    names = {name.partition(".")[0] for path in files for name in imported_names(path)}
    return frozenset(names - sys.stdlib_module_names - {"bench", *ROOMS})


def _files_of(method: str, loss: str | None, decoder: str | None, tuned: Tuned) -> set[Path]:
    starts = [methods.path(method)]
    if loss is not None and loss in losses:
        starts.append(losses.path(loss))
    if decoder is not None and decoder in decoders:
        starts.append(decoders.path(decoder))
    files = {path for start in starts for path in closure(start)}
    return files | _files_of(*tuned, None) if tuned else files


def forget() -> None:
    """Empty the cache, so that sources are read anew."""
    source_files.forget()
    for kept in (_normal_form, _code, _libraries):
        kept.cache_clear()


@cache
def _normal_form(path: Path) -> str:
    return normal_form(path.read_text(encoding="utf-8"))


def normal_form(source: str) -> str:
    """The syntax tree of a source as text, without docstrings; the same under every Python.

    ``ast.dump`` would not do: a later Python adds fields that are empty for the code of an earlier one,
    leaves out what is empty, and cuts f-strings differently.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    return _dump(tree)


def _dump(thing: object) -> str:
    if isinstance(thing, list):
        return f"[{','.join(map(_dump, thing))}]"
    if not isinstance(thing, ast.AST):
        return ascii(thing)
    fields = dict(ast.iter_fields(thing))
    if isinstance(thing, ast.JoinedStr):
        fields["values"] = _joined(thing.values)
    kept = {
        name: value
        for name, value in fields.items()
        if value != [] and (value is not None or isinstance(thing, ast.Constant))
    }
    if isinstance(thing, ast.Constant) and thing.kind is None:
        del kept["kind"]
    inside = ",".join(f"{name}={_dump(value)}" for name, value in kept.items())
    return f"{type(thing).__name__}({inside})"


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with neighbouring texts made one and empty ones left out."""
    whole: list[ast.expr] = []
    for value in values:
        last = whole[-1] if whole else None
        if not isinstance(value, ast.Constant):
            whole.append(value)
        elif isinstance(last, ast.Constant):
            whole[-1] = ast.Constant(str(last.value) + str(value.value))
        elif value.value != "":
            whole.append(value)
    return whole


def _is_text(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
