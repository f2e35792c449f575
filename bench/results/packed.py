"""The packed file beside every row: target positions, lists, users and strata, about ten KB a cell.

All numbers in all tables are computed from these files; the means in a row's JSON are not read.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import DataError
from bench.evaluation.lists import Lists
from bench.evaluation.positions import Positions
from bench.results.packed_arrays import EXAMS, SEAL, Arrays, check, fault
from bench.results.packed_lists import list_arrays, read_lists
from bench.types import BoolArray, Exam, IntArray

MAX_BYTES = 200_000  # a row whose file would be larger is kept without its lists


@dataclass(frozen=True, eq=False)
class Packed:
    """All that is kept of one examined cell: enough for any metric and any test, without its model.

    Attributes:
        title, item: positions of the test targets under either identity.
        user_Q: whose query it is, int64; rows of one user are one cluster in every interval.
        masks: by stratum, which queries belong to it, bool [Q].
        valid: positions of the validation targets under title identity; None if nothing was held out, or
            in files written before these were kept.
        target_Q: title class of each test target (the smallest item id with its title), int32; None in
            files written before it was kept.
        lists: the first ten titles of each list; None where they were left out or not yet kept.
    """

    title: Positions
    item: Positions
    user_Q: IntArray
    masks: Mapping[str, BoolArray] = field(default_factory=dict)
    valid: Positions | None = None
    target_Q: IntArray | None = None
    lists: Lists | None = None

    def __len__(self) -> int:
        return len(self.title)

    def with_targets(self, exam: Exam) -> Packed:
        """The same with the title class of each target, for a file that was written without.

        Save the result to rewrite the file. The users' ids are taken from the exam in full, too.

        Args:
            exam: the test exam that the cell was examined on, cut to as many rows.

        Raises:
            DataError: the exam's users are not those of this file, row by row.
        """
        if not self.asks(exam.queries.user_Q):
            raise DataError(
                f"an exam of {len(exam)} queries is not the one of these {len(self)} positions: their users "
                "differ; take the dataset's version and the cap on test rows that the row names"
            )
        class_N = exam.queries.catalogue.title_class
        user_Q = np.asarray(exam.queries.user_Q, np.int64)  # older files cut ids to 32 bits
        target_Q = class_N[np.asarray(exam.target_Q)].astype(np.int32)
        return replace(self, user_Q=user_Q, target_Q=target_Q)

    def asks(self, user_Q: IntArray) -> bool:
        """Whether the queries are those of these users; ids of older files have only 32 bits."""
        if len(user_Q) != len(self):
            return False
        kind = self.user_Q.dtype
        return bool(np.array_equal(self.user_Q, np.asarray(user_Q).astype(kind)))

    def bounded(self) -> tuple[Packed, str]:
        """The same without lists if it exceeds ``MAX_BYTES``, and then a sentence that says so."""
        size = len(self._body())
        if self.lists is None or size <= MAX_BYTES:
            return self, ""
        why = f"lists left out: with them the file has {size:,} bytes, the most is {MAX_BYTES:,}"
        return replace(self, lists=None), why

    def save(self, path: str | Path) -> None:
        """Write a sealed compressed npz, whole or not at all; equal content gives equal bytes."""
        body = self._body()
        path = Path(path)
        partial = path.with_name(path.name + ".tmp")
        partial.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
        partial.replace(path)

    def _body(self) -> bytes:
        arrays: dict[str, Any] = {"user_Q": np.asarray(self.user_Q)}
        for name, positions in (("title", self.title), ("item", self.item), ("valid", self.valid)):
            if positions is not None:
                arrays |= _position_arrays(name, positions)
        if self.masks:
            names = sorted(self.masks)
            arrays["strata"] = np.array(names)
            arrays["masks"] = np.packbits(np.stack([self.masks[name] for name in names]), axis=1)
        if self.target_Q is not None:
            arrays["target_Q"] = np.asarray(self.target_Q, np.int32)
        if self.lists is not None:
            arrays |= list_arrays(self.lists)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.comment = b"0" * SEAL
        return buffer.getvalue()[:-SEAL]

    @classmethod
    def load(cls, path: str | Path) -> Packed:
        """Read what ``save`` wrote, now or in an earlier version.

        Raises:
            ArtefactError: the file is missing, was changed by a single byte, is of another make, or its
                arrays do not fit each other.
        """
        arrays = dict(Arrays(path))
        exams = {
            f"{name.partition('.')[0]}.position_Q" for name in arrays if name.startswith(EXAMS)
        }
        if not {"user_Q", "title.position_Q", "item.position_Q", *exams} <= arrays.keys():
            raise fault(path, "not a file of positions")
        if why := check(arrays):
            raise fault(path, why)
        title, item, valid = (_read_positions(name, arrays) for name in ("title", "item", "valid"))
        assert title is not None and item is not None, "looked for above"
        return cls(
            title,
            item,
            arrays["user_Q"],
            _read_masks(arrays, len(title)),
            valid,
            arrays.get("target_Q"),
            read_lists(arrays),
        )


def positions_in(path: Path, name: str) -> Positions:
    """The positions of one exam alone, without the rest of the file; a quick ``load``.

    Args:
        path: a file that ``Packed.save`` wrote.
        name: ``title`` or ``item``.

    Raises:
        ArtefactError: as ``Packed.load``.
    """
    found = _read_positions(name, Arrays(path))
    if found is None:
        raise fault(path, "not a file of positions")
    return found


def seal_of(path: Path) -> str:
    """The checksum at the end of a file, 64 hex digits: a name for its content, unchecked.

    Raises:
        ArtefactError: the file is missing or too short to have one.
    """
    try:
        with path.open("rb") as file:
            file.seek(-SEAL, os.SEEK_END)
            return file.read().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no seal"
        raise fault(path, f"no positions kept ({reason})") from error


def _position_arrays(name: str, positions: Positions) -> dict[str, Any]:
    arrays: dict[str, Any] = {f"{name}.position_Q": positions.position_Q}
    if positions.chance_Q is not None:
        arrays |= {
            f"{name}.chance_Q": positions.chance_Q,
            f"{name}.start_Q": positions.start_Q,
        }
    return arrays


def _read_positions(name: str, arrays: Mapping[str, Any]) -> Positions | None:
    if f"{name}.position_Q" not in arrays:
        return None
    parts = ("position_Q", "chance_Q", "start_Q")
    return Positions(*(arrays.get(f"{name}.{part}") for part in parts))  # type: ignore[arg-type]


def _read_masks(arrays: Mapping[str, Any], n: int) -> dict[str, BoolArray]:
    if "masks" in arrays:
        masks_SQ = np.unpackbits(arrays["masks"], axis=1, count=n).astype(bool)
        return dict(zip(arrays["strata"].tolist(), masks_SQ, strict=True))
    return {  # files of the first make hold one array a stratum
        name.removeprefix("mask."): np.unpackbits(bits, count=n).astype(bool)
        for name, bits in arrays.items()
        if name.startswith("mask.")
    }
