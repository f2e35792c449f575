"""Arrays in sealed files: one in an npy file, several in an npz file whose zip comment is its seal."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.disk.sealed import SEAL, digest_of, read_or_set_aside, read_sealed, write_sealed


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write one array as a sealed npy file that is bound to its own name, which tells what it was made of.

    Args:
        path: the file.
        array: of numbers.
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_sealed(path, buffer.getvalue(), of=path.name)


def read_array(path: Path) -> npt.NDArray[Any] | None:
    """The array that ``write_array`` wrote; None if there is none, and none that can be used."""
    content = read_or_set_aside(path, of=path.name)
    return None if content is None else np.load(io.BytesIO(content), allow_pickle=False)


def sealed_npz(arrays: Mapping[str, Any], *, of: str = "", compress: bool = True) -> bytes:
    """Arrays as an npz file whose zip comment is its seal; equal arrays give equal bytes.

    Args:
        arrays: by name.
        of: what the file belongs to.
        compress: whether to take time for a smaller file.
    """
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"0" * SEAL
    body = buffer.getvalue()[:-SEAL]
    return body + digest_of(body, of).encode()


def read_npz(path: Path, *, of: str = "") -> dict[str, Any]:
    """The arrays that ``sealed_npz`` packed.

    Args:
        path: the file.
        of: what it belongs to.

    Raises:
        DamagedError: the file is not as it was written.
        FileNotFoundError: there is no such file.
    """
    content = read_sealed(path, of=of)
    with np.load(io.BytesIO(content + b"0" * SEAL), allow_pickle=False) as stored:
        return dict(stored)
