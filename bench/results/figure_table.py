"""The figures of many rows at once, taken from the cache where it has them."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import K
from bench.errors import ArtefactError
from bench.evaluation.metrics import RankCounts
from bench.results.cache import Cache, key_of
from bench.results.figures import Figures, figures_of
from bench.results.packed import Packed, seal_of
from bench.results.row_files import Tell, stop
from bench.types import FloatArray

MANY = 500  # files that are worth a second process
ABSENT = -1  # number of queries of a part that a file does not have


def read_figures(paths: Sequence[Path], cache: Cache, tell: Tell = stop) -> dict[Path, Figures]:
    """Figures of packed files.

    Args:
        paths: the files.
        cache: where figures of an earlier call may lie, by the files' checksums.
        tell: hears of each file that is missing or damaged, which is left out.

    Raises:
        ArtefactError: there is such a file, unless ``tell`` lets it pass; names it.
    """
    seals: dict[Path, str] = {}
    for path in paths:
        try:
            seals[path] = seal_of(path)
        except ArtefactError as fault:
            tell(fault)
    name = key_of(["figures"])
    known = _unpack(cache.load(name) or {})
    missing = [path for path in seals if seals[path] not in known]
    found: dict[str, Figures] = {}
    for path, one in zip(missing, _compute(missing), strict=True):
        if isinstance(one, ArtefactError):
            tell(one)
        else:
            found[seals[path]] = one
    if found:
        asked = {seal: known[seal] for seal in seals.values() if seal in known}
        # rows that were replaced are forgotten once there are more of them than of those in use
        kept = known if len(known) <= 2 * len(paths) else asked
        cache.save(name, _pack({**kept, **found}))
    found = known | found
    return {path: found[seal] for path, seal in seals.items() if seal in found}


def _compute(paths: Sequence[Path]) -> Iterable[Figures | ArtefactError]:
    workers = min(os.cpu_count() or 1, 8)
    forks = "fork" in multiprocessing.get_all_start_methods()
    if len(paths) < MANY or workers == 1 or not forks:
        return map(_read, paths)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(_read, paths, chunksize=64))


def _read(path: Path) -> Figures | ArtefactError:
    try:
        return figures_of(Packed.load(path))
    except ArtefactError as fault:  # one broken file is no reason to lose the others
        return fault


def _pack(found: Mapping[str, Figures]) -> dict[str, Any]:
    parts = sorted({part for figures in found.values() for part in figures.counts})
    n_RP = np.full((len(found), len(parts)), ABSENT, np.int64)
    count_RPK = np.zeros((len(found), len(parts), K))
    column = {part: number for number, part in enumerate(parts)}
    for row, figures in enumerate(found.values()):
        for part, counts in figures.counts.items():
            n_RP[row, column[part]] = counts.n
            count_RPK[row, column[part]] = counts.count_K
    return {
        "seal_R": np.array(list(found)),
        "part_P": np.array(parts),
        "n_RP": n_RP,
        "count_RPK": count_RPK,
        "users_R": np.array([figures.users for figures in found.values()]),
        "lists_R": np.array([json.dumps(dict(figures.lists)) for figures in found.values()]),
    }


def _unpack(stored: Mapping[str, Any]) -> dict[str, Figures]:
    try:
        parts = stored["part_P"].tolist()
        rows = zip(
            stored["n_RP"].tolist(),
            stored["count_RPK"],
            stored["users_R"].tolist(),
            stored["lists_R"].tolist(),
            strict=True,
        )
        figures = [
            Figures(_counts(parts, n_P, count_PK), json.loads(lists), users)
            for n_P, count_PK, users, lists in rows
        ]
        return dict(zip(stored["seal_R"].tolist(), figures, strict=True))
    except (KeyError, ValueError):
        return {}


def _counts(parts: list[str], n_P: list[int], count_PK: FloatArray) -> dict[str, RankCounts]:
    found = zip(parts, n_P, count_PK, strict=True)
    return {part: RankCounts(n, count_K) for part, n, count_K in found if n != ABSENT}
