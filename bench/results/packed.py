"""The file beside every row: target positions, users and strata, a few KB a cell.

With it any metric, test or table can be computed again without the model, and ``bench verify`` can hold a
row against it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import ArtefactError
from bench.evaluation.metrics import Positions
from bench.types import BoolArray, IntArray

SEAL = 64  # hex digits of SHA-256, kept as the comment of the zip archive


@dataclass(frozen=True, eq=False)
class Packed:
    """All that is kept of one examined cell: enough for any metric and any test, without its model.

    Attributes:
        title, item: positions under either identity.
        user_Q: whose query it is, int32; rows of one user are one cluster in every interval.
        masks: by stratum, which queries belong to it, bool [Q].
    """

    title: Positions
    item: Positions
    user_Q: IntArray
    masks: Mapping[str, BoolArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.title)

    def save(self, path: str | Path) -> None:
        """Write a sealed compressed npz, whole or not at all; equal content gives equal bytes."""
        arrays: dict[str, Any] = {"user_Q": np.asarray(self.user_Q, np.int32)}
        for name, positions in (("title", self.title), ("item", self.item)):
            arrays[f"{name}.position_Q"] = positions.position_Q
            if positions.chance_Q is not None:
                arrays[f"{name}.chance_Q"] = positions.chance_Q
                arrays[f"{name}.start_Q"] = positions.start_Q
        arrays |= {f"mask.{name}": np.packbits(mask) for name, mask in sorted(self.masks.items())}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.comment = b"0" * SEAL
        body = buffer.getvalue()[:-SEAL]
        path = Path(path)
        partial = path.with_name(path.name + ".tmp")
        partial.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Packed:
        """Read what ``save`` wrote.

        Raises:
            ArtefactError: the file is missing, was changed by a single byte, or is of another make.
        """
        again = "run the cell again with `bench run --reuse never`"
        try:
            content = Path(path).read_bytes()
        except OSError as fault:
            raise ArtefactError(f"{path}: no positions kept ({fault.strerror}); {again}") from fault
        if hashlib.sha256(content[:-SEAL]).hexdigest().encode() != content[-SEAL:]:
            raise ArtefactError(f"{path}: the positions were changed or cut short; {again}")
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = dict(stored)
        title, item = (
            Positions(
                arrays[f"{name}.position_Q"],
                arrays.get(f"{name}.chance_Q"),
                arrays.get(f"{name}.start_Q"),
            )
            for name in ("title", "item")
        )
        user_Q = arrays["user_Q"]
        masks = {
            name.removeprefix("mask."): np.unpackbits(bits, count=len(user_Q)).astype(bool)
            for name, bits in arrays.items()
            if name.startswith("mask.")
        }
        return cls(title, item, user_Q, masks)
