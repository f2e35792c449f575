"""Fitted methods on disk: ``keep`` writes one, ``restore`` builds it again.

``method.json``, written last, says what the method is and lists every file with its SHA-256; nothing is read
from a folder that differs from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import configure
from bench.disk.manifest import check_files, files_in
from bench.disk.sealed import read_note, write_note
from bench.disk.storage import flush, writing
from bench.errors import ArtefactError, DamagedError
from bench.registry import methods

if TYPE_CHECKING:
    from bench.method import Method

NAME = "method.json"
# what a folder of an earlier version says, which lists no files and so cannot be checked
OLDER = ("method", "loss", "decoder", "backbone", "config")


def keep(method: Method, folder: Path) -> None:
    """Save a fitted method with what ``restore`` needs to build it again.

    Args:
        method: fitted.
        folder: made if it is missing.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NAME).unlink(missing_ok=True)
        method.save(folder)
        flush(folder)
    manifest = {
        "method": method.name,
        "loss": method.loss,
        "decoder": method.decoder,
        "backbone": method.backbone,
        "config": method.config.declared(),
        "files": files_in(folder),
    }
    # last, since a folder with a manifest counts as complete
    write_note(folder / NAME, manifest, sync=True)


def manifest_of(folder: Path, *, anew: bool = False) -> dict[str, Any]:
    """What ``method.json`` says of a fitted method, after its files were compared with it.

    Args:
        folder: where ``keep`` wrote.
        anew: read every byte even of large files that have been looked at before.

    Raises:
        ArtefactError: there is no complete method in the folder.
        DamagedError: a file is not as it was written.
    """
    try:
        manifest = read_note(folder / NAME, older=OLDER)
    except FileNotFoundError as fault:
        raise ArtefactError(
            f"no saved method in {folder}; run the cell again with `bench run --reuse never`"
        ) from fault
    except DamagedError as damage:
        raise DamagedError(folder, f"{NAME} is {damage.why}") from damage
    if "files" in manifest:
        check_files(folder, manifest["files"], anew=anew, besides=(NAME,))
    return manifest


def restore(folder: Path, *, device: str) -> Method:
    """Build the fitted method that ``keep`` saved.

    Args:
        folder: where ``keep`` wrote.
        device: ``cpu``, ``cuda`` ...

    Raises:
        ArtefactError: there is no complete method in the folder.
        DamagedError: a file is not as it was written.
    """
    manifest = manifest_of(folder)
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
