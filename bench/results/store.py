"""Rows and artefacts on disk: each complete or absent, and at most one process running a cell.

A row is one JSON file and, beside it, the packed target positions (``results/rows``). Published rows, those
that came with the repository, are in a second folder of the same form (``leaderboards/rows``, committed),
which is only read. Everything else of a cell (fitted method, lists, log, status, checkpoints) lives in the
run store, one folder a cell, which git ignores.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bench.cell import Cell, Row
from bench.disk.sealed import set_aside, write_note
from bench.disk.storage import write_json, write_whole
from bench.errors import DamagedError, DataError
from bench.results.row_damage import POSITIONS, damage_of, seal_beside
from bench.results.row_files import read_row, readable
from bench.results.storable import plain_row

ABSENT = "absent"  # stands in a file name for a cell that was asked for but could not be resolved
ANSWERED = "answered"  # in the run-store folder of a cell: its row was written from here
LISTS = "lists.npz"
Hit = Literal["done", "failed", "left out", "stale", "foreign", "damaged", "missing"]


def _file(cell: Cell) -> Path:
    name = re.sub(r"[^\w.+~-]+", "-", cell.label.partition("/")[2]).strip("-")
    mark = cell.slot if cell.data_version else ABSENT
    return Path(cell.dataset, cell.scale, f"{name}-{mark}.json")


def _who(cell: Cell) -> tuple[object, ...]:
    return (cell.method, cell.loss, cell.seed, cell.profile)


@dataclass(frozen=True)
class Store:
    """The folders of rows and artefacts.

    Attributes:
        rows: folder of the rows that tables are made from.
        root: run store.
        published: folder of the published rows, which is never written to; None for none.
    """

    rows: Path
    root: Path
    published: Path | None = None

    def folder(self, key: str) -> Path:
        """The run-store folder of a cell: ``model/``, ``scratch/``, ``status.json``, ``log.txt``."""
        return self.root / "cells" / key

    def model(self, key: str) -> Path:
        """Folder of a cell's fitted method."""
        return self.folder(key) / "model"

    def row_path(self, cell: Cell, *, stage: bool = False) -> Path:
        """The file of a cell's row, named after method, loss and seed and the cell's ``slot``.

        Args:
            cell: the cell.
            stage: whether its method is a stage, whose rows are kept in the run store and not in the
                tables.
        """
        return (self.root / "stages" if stage else self.rows) / _file(cell)

    def namesakes(self, cell: Cell, mark: str = "") -> list[Row]:
        """Rows of the same method, loss and seed on the same board, whatever their configuration.

        Args:
            cell: whose.
            mark: how the names of their files end; empty for all.
        """
        paths = (self.rows / cell.dataset / cell.scale).glob(f"{cell.method}[-+~]*{mark}.json")
        return [row for _, row in readable(paths) if _who(row.cell) == _who(cell)]

    def read(self, cell: Cell) -> Row | None:
        """The own row that was asked the same as this cell, whatever version made it; None if there is
        none, or none that can be read.
        """
        for stage in (False, True):
            # it may go at any moment: another runner replaces its own notes
            with contextlib.suppress(OSError, DataError):
                return read_row(self.row_path(cell, stage=stage))
        return None

    def find(self, cell: Cell) -> Row | None:
        """The own or else the published row that was asked the same; first one that answers the very cell."""
        found = [self.read(cell)]
        if self.published is not None:
            found += [row for _, row in readable([self.published / _file(cell)])]
        rows = [row for row in found if row is not None]
        return next(iter([row for row in rows if row.cell.key == cell.key] + rows), None)

    def look(self, cell: Cell, *, any_version: bool = False, foreign: bool = True) -> Hit:
        """What the store holds for a cell.

        Args:
            cell: the question.
            any_version: take the answer of another version too, as long as it saw the same data.
            foreign: take a row that was made elsewhere, e.g. a published one.

        Returns:
            The status of the row; ``stale`` for an answer of other versions or other data, ``foreign`` for
            one that is not taken because it was made elsewhere, ``damaged`` for an own one that is not as it
            was written, ``missing`` for none.
        """
        if any(
            damage
            for stage in (False, True)
            for damage in damage_of(self.row_path(cell, stage=stage))
        ):
            return "damaged"
        row = self.find(cell)
        if row is None:
            return "missing"
        same = row.cell.key == cell.key
        if any_version and row.cell.data_version == cell.data_version:
            same = True
        if not same:
            return "stale"
        return row.status if foreign or self.made_here(row.cell) else "foreign"

    def made_here(self, cell: Cell) -> bool:
        """Whether the cell was run with this run store; otherwise its row came from elsewhere."""
        return (self.folder(cell.key) / ANSWERED).exists()

    def stamp(self, key: str) -> str:
        """A text that changes whenever a row of the cell is written here; empty before the first."""
        try:
            return (self.folder(key) / ANSWERED).read_bytes().hex()
        except OSError:
            return ""

    def answered_since(self, cell: Cell, stamp: str) -> Row | None:
        """The cell's row if this store wrote one, completely, after ``stamp`` was read; else None.

        Args:
            cell: the cell.
            stamp: what ``stamp`` returned earlier.
        """
        if self.stamp(cell.key) == stamp:
            return None
        row = self.read(cell)
        if row is None or row.cell.key != cell.key:
            return None
        return row if row.status != "done" or self.artefact(cell) else None

    def artefact(self, cell: Cell, *, any_version: bool = False) -> Path | None:
        """Folder of the cell's fitted method; None if the fit is missing or unfinished.

        Args:
            cell: the cell.
            any_version: also accept what another version of the code fitted, as recorded in the cell's
                row.
        """
        row = self.find(cell) if any_version else None
        keys = [cell.key, row.cell.key] if row else [cell.key]
        return next((self.model(key) for key in keys if self._fitted(key)), None)

    def _fitted(self, key: str) -> bool:
        parts = (self.model(key) / "method.json", self.folder(key) / "fit.json")
        return all(part.exists() for part in parts)

    def write(
        self, row: Row, *, stage: bool = False, pack: Callable[[Path], None] | None = None
    ) -> Path:
        """Write a row and its packed positions, so that both are there or neither is.

        Positions are written before a row that has them and removed after a row that has none, so a
        finished row never lacks its own.

        Args:
            row: the row.
            stage: whether its method is a stage.
            pack: writes the packed positions to a path; None for a row without.
        """
        row = plain_row(replace(row, reason=self._without_paths(row.reason)))
        path, sync = self.row_path(row.cell, stage=stage), row.status == "done"
        for damage in damage_of(path):
            set_aside(damage)
        if pack is not None:
            beside = path.with_suffix(".npz")
            write_whole(beside, pack, sync=sync)
            row = replace(row, provenance={**row.provenance, POSITIONS: seal_beside(beside)})
        write_note(path, row.as_dict(), sync=sync)
        if pack is None:
            path.with_suffix(".npz").unlink(missing_ok=True)
        answer = {"status": row.status, "mark": uuid.uuid4().hex}
        write_json(self.folder(row.cell.key) / ANSWERED, answer)
        # a real answer replaces the note that there is none
        if row.cell.data_version and not stage:
            for other in self.namesakes(row.cell, f"-{ABSENT}"):
                if not other.cell.data_version:
                    self.row_path(other.cell).unlink(missing_ok=True)
        return path

    def _without_paths(self, text: str) -> str:
        """A reason without the paths of this machine, which others cannot use and should not see."""
        places = {str(self.root): "$BENCH_STORE", str(Path.cwd()): ".", str(Path.home()): "~"}
        if data := os.environ.get("BENCH_DATA"):
            places = {data: "$BENCH_DATA", **places}
        for place, name in places.items():
            text = text.replace(place, name)
        return text

    def write_lists(self, key: str, arrays: Mapping[str, Any]) -> None:
        """Keep the recommendation lists of a cell in the run store, as ``lists.npz``, which numpy reads.

        Args:
            key: of the cell.
            arrays: by name.
        """
        from bench.disk.sealed_arrays import sealed_npz

        content = sealed_npz(arrays, of=key)
        write_whole(self.folder(key) / LISTS, lambda part: part.write_bytes(content))

    def read_lists(self, key: str) -> Mapping[str, Any] | None:
        """What ``write_lists`` kept; None if there are none, or they are not as they were written.

        Args:
            key: of the cell.
        """
        from bench.disk.sealed_arrays import read_npz

        try:
            return read_npz(self.folder(key) / LISTS, of=key)
        except (OSError, DamagedError):
            return None

    def kept_bytes(self, key: str) -> int:
        """Bytes that a cell has on disk beside its row, its checkpoints left out."""
        folder = self.folder(key)
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        return sum((folder / p).stat().st_size for p in files if p.parts[0] != "scratch")

    def forget_scratch(self, key: str) -> None:
        """Drop the checkpoints of a finished cell."""
        shutil.rmtree(self.folder(key) / "scratch", ignore_errors=True)

    @contextlib.contextmanager
    def claim(self, key: str, *, wait: float | None = 0.0) -> Iterator[bool]:
        """Lock a cell for the body of a ``with``; yields False if another process holds the lock.

        The kernel releases the lock when its process ends, however it ends.

        Args:
            key: the cell.
            wait: seconds to wait for the lock; None waits without limit.
        """
        path = self.root / "claims" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        with path.open("a+") as handle:
            while not (held := _try_lock(handle.fileno())):
                if wait is not None and time.monotonic() - start >= wait:
                    break
                time.sleep(0.2)
            if held:
                handle.truncate(0)
                handle.write(str(os.getpid()))
                handle.flush()
            yield held


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
