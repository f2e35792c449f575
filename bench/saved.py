"""Fitted methods on disk: ``keep`` writes one, ``restore`` builds it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config import configure
from bench.errors import ArtefactError
from bench.registry import methods

if TYPE_CHECKING:
    from bench.method import Method


def keep(method: Method, folder: Path) -> None:
    """Save a fitted method with what ``restore`` needs to build it again.

    Args:
        method: fitted.
        folder: made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    method.save(folder)
    manifest = {
        "method": method.name,
        "loss": method.loss,
        "decoder": method.decoder,
        "backbone": method.backbone,
        "config": method.config.declared(),
    }
    # last, since a folder with a manifest counts as complete
    (folder / "method.json").write_text(json.dumps(manifest, indent=1))


def restore(folder: Path, *, device: str) -> Method:
    """Build the fitted method that ``keep`` saved.

    Args:
        folder: where ``keep`` wrote.
        device: ``cpu``, ``cuda`` ...

    Raises:
        ArtefactError: there is no complete method in the folder.
    """
    path = folder / "method.json"
    if not path.exists():
        raise ArtefactError(
            f"no saved method in {folder}; run the cell again with `bench run --reuse never`"
        )
    manifest = json.loads(path.read_text())
    kind = methods.get(manifest["method"])
    config = configure(kind.Config, manifest["config"], owner=kind.name, stored=True)
    method = kind(
        config,
        loss=manifest["loss"],
        decoder=manifest["decoder"],
        backbone=manifest["backbone"],
    )
    method.load(folder, device=device)
    return method
