"""What identifies a cell beside its configuration: declared versions, or contents where there is none.

A version is an integer that the author of a method, a loss or a decoder raises when its results move.
Whatever declares none is identified by its content: a plugin by its file and the files beside it that it
imports, a model on this machine by its weights. Data files that a class declares to read count as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.disk.digests import file_digest
from bench.errors import ConfigError
from bench.registry import Registry, decoders, losses, methods
from bench.results.model_files import model_content, models_in
from bench.results.source_files import in_house
from bench.results.source_hash import TUNE, own_content


@dataclass(frozen=True)
class Declared:
    """What identifies the code and the models behind a cell.

    Attributes:
        versions: by role (``method``, ``loss``, ``decoder``; of a search also ``tuned method`` ...).
        contents: by role, the hash of what is identified by its content.
    """

    versions: Mapping[str, int]
    contents: Mapping[str, str]


def declared(
    method: str,
    *,
    loss: str | None = None,
    decoder: str | None = None,
    backbone: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Declared:
    """Versions and contents of a method with its axes.

    Args:
        method: its registered name.
        loss: its loss; only a registered one has a version.
        decoder: its registered name.
        backbone: its name; where that is a model on this machine, its content counts.
        config: the method's configuration; a search names there what it tunes. Wherever it names a model
            on this machine, that model's content counts.
    """
    given = dict(config or {})
    roles = list(_roles(method, loss, decoder))
    if method == TUNE:
        backbone = backbone or given.pop("backbone", None)
        roles += [
            (f"tuned {role}", registry, name)
            for role, registry, name in _roles(
                given["method"], given.get("loss"), given.get("decoder")
            )
        ]
    versions = {role: registry.get(name).version for role, registry, name in roles}
    contents = {
        role: own_content(registry.path(name))
        for role, registry, name in roles
        if not in_house(registry.path(name)) and not _states_version(registry.get(name))
    }
    contents |= {
        f"{role} files": files_content(registry.path(name).parent, files)
        for role, registry, name in roles
        if (files := getattr(registry.get(name), "files", ()))
    }
    if backbone is not None and (content := model_content(backbone)):
        contents["backbone"] = content
    contents |= {f"config.{name}": content for name, content in models_in(given)}
    return Declared(versions, contents)


def _roles(
    method: str, loss: str | None, decoder: str | None
) -> Iterator[tuple[str, Registry[Any], str]]:
    yield "method", methods, method
    if loss is not None and loss in losses:
        yield "loss", losses, loss
    if decoder is not None and decoder in decoders:
        yield "decoder", decoders, decoder


def files_content(folder: Path, files: Sequence[str]) -> str:
    """Hash of the data files that a method, loss or decoder declares to read, 16 hex digits.

    Args:
        folder: of the file that it is in.
        files: paths, relative ones from there.

    Raises:
        ConfigError: one of them cannot be read.
    """
    whole = hashlib.sha256()
    for name in files:
        path = folder / name
        try:
            whole.update(f"{name} {file_digest(path)}\n".encode())
        except OSError as fault:
            raise ConfigError(
                f"the declared file {path} cannot be read ({fault.strerror}); put it there, or take it out "
                "of `files`"
            ) from fault
    return whole.hexdigest()[:16]


def _states_version(thing: Any) -> bool:
    """Whether a plugin's class declares a version itself; an inherited one does not count."""
    return "version" in vars(thing)
