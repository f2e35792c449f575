"""The teacher's artefacts on disk, which the student reads and checks. numpy only.

``item_emb.safetensors`` point of each title, ``gen_text.jsonl`` what was generated for each row,
``rank_topk.npy`` and ``dist_topk.npy`` the nearest items and their distances, ``dist_target.npy`` the
distance to the true target, ``rows.npy`` which training rows these are, ``meta.json`` all that must agree.
In the files item j is suite id j + 1 and -1 is no item, and rows are counted in the order of training rows.

Axes: T exported rows, K items, N items of the catalogue, D width of the points.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import ArtefactError
from bench.types import Catalogue, IntArray, Windows

FILES = (
    "item_emb.safetensors",
    "gen_text.jsonl",
    "rank_topk.npy",
    "dist_topk.npy",
    "dist_target.npy",
    "rows.npy",
    "meta.json",
)
COMMAND = "python -m bench run --methods dllm2rec --datasets <this dataset> --reuse never"


class TeacherArtifactsMissing(ArtefactError):
    """Teacher artefacts that are absent, incomplete or made from other data."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """Rankings of some training rows and a point for each title.

    Attributes:
        row_T: training rows, int64.
        item_TK: nearest items, best first, suite ids, 0 where there is none, int64.
        distance_TK: their distances, float32; smaller is surer.
        target_distance_T: distance of what was generated to the true target, NaN where unknown, float32.
        point_ND: text embedding of each title, float32 [N + 1, D]; zeros for items without a title.
        meta: where all this comes from.
    """

    row_T: IntArray
    item_TK: IntArray
    distance_TK: npt.NDArray[np.float32]
    target_distance_T: npt.NDArray[np.float32]
    point_ND: npt.NDArray[np.float32]
    meta: Mapping[str, Any]


def train_hash(train: Windows) -> str:
    """SHA-256 over users, histories, targets and times of all rows in their order, hex."""
    made = hashlib.sha256()
    parts = (train.user_W, train.sequences.values, train.sequences.offsets, train.timestamp_W)
    for part in parts:
        made.update(np.ascontiguousarray(part, np.int64).tobytes())
    return made.hexdigest()


def titles_hash(catalogue: Catalogue) -> str:
    """SHA-256 over all titles, hex."""
    return hashlib.sha256("\x00".join(catalogue.titles).encode()).hexdigest()


def files_hash(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, hex."""
    made = hashlib.sha256()
    for path in sorted(paths):
        made.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                made.update(block)
    return made.hexdigest()


def row_checksums(train: Windows, row_T: IntArray) -> list[str]:
    """A short hash of history and target of each row, hex.

    Args:
        train: training rows.
        row_T: numbers of the rows wanted.
    """
    rows = train.sequences.take(row_T)
    return [hashlib.sha256(row.astype(np.int64).tobytes()).hexdigest()[:16] for row in rows]


def write(folder: Path, teacher: Teacher, texts: Iterable[Mapping[str, Any]]) -> None:
    """Write all files; ``meta.json``, the sign that they are whole, comes last.

    Args:
        folder: made if need be.
        teacher: the artefacts.
        texts: per row ``{"row", "text", "logp"}``; ``logp`` is null where the model's own is not known.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"item_emb": np.ascontiguousarray(teacher.point_ND[1:])}, folder / FILES[0])
    lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in texts)
    (folder / "gen_text.jsonl").write_text("".join(lines), encoding="utf-8")
    np.save(folder / "rank_topk.npy", (teacher.item_TK - 1).astype(np.int32))
    np.save(folder / "dist_topk.npy", teacher.distance_TK.astype(np.float32))
    np.save(folder / "dist_target.npy", teacher.target_distance_T.astype(np.float32))
    np.save(folder / "rows.npy", teacher.row_T.astype(np.int64))
    (folder / "meta.json").write_text(json.dumps(dict(teacher.meta), indent=1), encoding="utf-8")


def read(folder: Path, train: Windows) -> Teacher:
    """The artefacts in a folder, checked against the training rows they are used with.

    Args:
        folder: where ``write`` wrote.
        train: the training rows of the student.

    Raises:
        TeacherArtifactsMissing: a file is missing, or shape, size or hash do not agree.
    """
    from safetensors.numpy import load_file

    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise TeacherArtifactsMissing(
            f"no teacher in {folder}: {', '.join(missing)} not there; make it with `{COMMAND}`"
        )
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    arrays = [np.load(folder / name, allow_pickle=False) for name in FILES if name.endswith("npy")]
    rank_TK, distance_TK, target_T, row_T = arrays
    point_ND = load_file(folder / FILES[0])["item_emb"].astype(np.float32)
    point_ND = np.concatenate([np.zeros((1, point_ND.shape[1]), np.float32), point_ND])
    named = np.array([bool(title) for title in train.catalogue.titles])
    point_ND[~named] = 0
    teacher = Teacher(row_T, rank_TK.astype(np.int64) + 1, distance_TK, target_T, point_ND, meta)
    _check(folder, teacher, train)
    return teacher


def _check(folder: Path, teacher: Teacher, train: Windows) -> None:
    meta, n_rows = teacher.meta, len(teacher.row_T)
    shape = (n_rows, int(meta["k"]))
    if len(teacher.point_ND) != train.n_items + 1:
        found = f"{len(teacher.point_ND) - 1} titles, the catalogue has {train.n_items}"
    elif meta["items"] != titles_hash(train.catalogue):
        found = "other titles than this catalogue's"
    elif teacher.item_TK.shape != shape or teacher.distance_TK.shape != shape:
        found = f"rankings of shape {teacher.item_TK.shape}, expected {shape}"
    elif len(teacher.target_distance_T) != n_rows or teacher.item_TK.max(initial=0) > train.n_items:
        found = "arrays that do not belong together"
    elif meta["train"] != train_hash(train):
        found = f"{_row_fault(teacher, train)}"
    else:
        return
    raise TeacherArtifactsMissing(
        f"the teacher in {folder} has {found}; make it for these rows with `{COMMAND}`"
    )


def _row_fault(teacher: Teacher, train: Windows) -> str:
    """What is wrong with the rows, for the message."""
    if int(teacher.meta["n_train"]) != len(train):
        return f"rankings for {teacher.meta['n_train']} training rows, there are {len(train)}"
    now = row_checksums(train, teacher.row_T)
    moved = sum(a != b for a, b in zip(now, teacher.meta["row_checksums"], strict=True))
    return f"other training rows ({moved} of its {len(now)} rows hold something else now)"
