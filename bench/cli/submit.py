"""``bench submit DIR``: rows checked as a stranger's, and laid out for a pull request."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli._verb import add_verb
from bench.errors import ConfigError
from bench.results.places import PUBLISHED

if TYPE_CHECKING:
    from bench.cell import Row
    from bench.results.packed import Packed
    from bench.types import Dataset

ABOUT = """\
Check a folder of rows as rows of somebody unknown, and lay those that pass out as a pull request has them:
OUT/leaderboards/rows/... and OUT/SUBMISSION.md. A row passes if its file keeps the schema, `bench verify`
finds no fault, its method, loss, decoder and dataset are this repository's, the code was committed, the terms
of its data let rows be passed on, and its numbers can be true: Hit >= NDCG, stated means are those of the
positions, shares are shares, it is not dated in the future. Where the dataset is at hand, users, targets and
strata are compared with it, too. Nothing outside OUT is written. The same runs on every pull request that
brings rows.

  python -m bench submit results/rows
  python -m bench submit received/rows --out checked --data-root data
"""
NOTE = """\
# Rows for the board

{table}
Checked by `python -m bench submit`. To send them: copy `leaderboards` over a clone of the repository, commit
on a branch of its own, and open a pull request.
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = add_verb(
        subparsers,
        "submit",
        "check rows as a stranger's and lay them out for a pull request",
        ABOUT,
    )
    parser.add_argument("rows", metavar="DIR", help="folder of rows, e.g. results/rows")
    parser.add_argument(
        "--out", default="submission", help="a folder that is new or empty (default: %(default)s)"
    )
    parser.add_argument("--data-root", help="where datasets are (default: $BENCH_DATA)")
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Check the rows and lay them out; 1 if any was refused."""
    from bench.cli._left_out import LeftOut
    from bench.cli.board import existing
    from bench.results.row_files import read_folder

    out, left_out = Path(options.out), LeftOut()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"--out {out}: it is there and not empty; give a new folder")
    found = read_folder(existing(options.rows), left_out)
    data = _Data(options.data_root)
    passed: list[tuple[Path, Row]] = []
    refused = 0
    for path, row in found:
        if row.status != "done":
            continue
        if faults := list(dict.fromkeys(faults_of(path, row, data))):
            refused += 1
            print(f"refused: {_said(path)}: {'; '.join(faults)}")
        else:
            passed.append((path, row))
    if passed:
        _lay_out(out, passed)
    idle = sum(row.status != "done" for _, row in found)
    for line in data.unseen():
        print(line)
    where = f"; commit {out}/leaderboards on a branch" if passed else ""
    print(
        f"{len(passed)} rows pass, {refused + len(left_out)} refused, {idle} without numbers{where}"
    )
    return 1 if refused or left_out else 0


def faults_of(path: Path, row: Row, data: _Data) -> Iterator[str]:
    """Why a row may not join the board, a phrase each.

    Args:
        path: the row's file.
        row: what was read from it.
        data: the datasets at hand.
    """
    from bench.cli.publish import faults
    from bench.data.licences import terms_of
    from bench.results.packed import Packed
    from bench.results.plausible import against_data, implausible

    if any(file.is_symlink() for file in (path, path.with_suffix(".npz"))):
        yield "a link and no file"
        return
    found = list(faults(path, row))
    yield from found
    if terms_of(row.cell.dataset) is None:
        yield f"no terms are on record for dataset {row.cell.dataset!r}, so its rows cannot be passed on"
    if found:
        return
    packed = Packed.load(path.with_suffix(".npz"))
    yield from implausible(row, packed)
    if (known := data.of(row)) is not None:
        yield from against_data(row, packed, known)
    yield from _published(row, packed)


def _published(row: Row, packed: Packed) -> Iterator[str]:
    """A published row that answers the very cell with other positions."""
    import numpy as np

    from bench.results.packed import positions_in
    from bench.results.store import Store

    board = Store(rows=PUBLISHED, root=PUBLISHED)
    there = board.read(row.cell)
    if there is None or there.cell.key != row.cell.key:
        return
    path = board.row_path(row.cell).with_suffix(".npz")
    if not np.array_equal(positions_in(path, "title").position_Q, packed.title.position_Q):
        yield f"{row.cell.key} is published with other positions; say why, and which one is wrong"


class _Data:
    """The datasets at hand, loaded once; a version that is not here is said once."""

    def __init__(self, root: str | None) -> None:
        from bench.results.places import default_data_root

        self.root = default_data_root(root)
        self._loaded: dict[tuple[str, bool], Dataset | None] = {}
        self._unseen: dict[tuple[str, str], int] = {}

    def of(self, row: Row) -> Dataset | None:
        """The dataset of a row in its version; None if it is not here."""
        from bench.data.load import load_dataset
        from bench.errors import BenchError

        cell = row.cell
        if (cell.dataset, cell.uncut) not in self._loaded:
            try:
                found: Dataset | None = load_dataset(cell.dataset, self.root, uncut=cell.uncut)
            except (BenchError, ImportError):
                found = None
            self._loaded[cell.dataset, cell.uncut] = found
        data = self._loaded[cell.dataset, cell.uncut]
        if data is not None and data.version == cell.data_version:
            return data
        name = (cell.dataset, cell.data_version)
        self._unseen[name] = self._unseen.get(name, 0) + 1
        return None

    def unseen(self) -> Iterator[str]:
        """A line for each version of a dataset that rows were not compared with."""
        for (name, version), count in sorted(self._unseen.items()):
            yield f"{count} rows not compared with {name} {version}, which is not here"


def _lay_out(out: Path, rows: list[tuple[Path, Row]]) -> None:
    """Copy rows to the place where a clone of the repository has them, under names of our own."""
    from bench.disk.storage import write_whole
    from bench.results.store import Store

    board = Store(rows=out / PUBLISHED, root=out)
    for path, row in rows:
        goal = board.row_path(row.cell)
        for end in (".npz", ".json"):
            data = path.with_suffix(end).read_bytes()
            write_whole(goal.with_suffix(end), partial(_fill, data=data))
    note = NOTE.format(table=_table(rows)).encode()
    write_whole(out / "SUBMISSION.md", partial(_fill, data=note))


def _fill(part: Path, data: bytes) -> None:
    part.write_bytes(data)


def _table(rows: list[tuple[Path, Row]]) -> str:
    from bench.board.render import Column, Table, score, to_markdown
    from bench.data.licences import terms_of
    from bench.results.figures import figures_beside

    columns = (
        Column("label", "Row"),
        Column("key", "Key"),
        Column("ndcg", "NDCG@10", score, True),
        Column("hit", "Hit@10", score, True),
        Column("machine", "Machine"),
        Column("terms", "Data"),
    )
    lines = []
    for path, row in rows:
        figures = figures_beside(path)
        numbers = {} if figures is None else {k: figures.mean(f"{k}@10") for k in ("ndcg", "hit")}
        about = {"machine": row.provenance.get("machine"), "terms": terms_of(row.cell.dataset)}
        lines.append({"label": row.cell.label, "key": row.cell.key, **numbers, **about})
    return to_markdown(Table("Rows", columns, (("", tuple(lines)),)), level=2)


def _said(path: Path) -> str:
    from bench.text.plain import one_line

    return one_line(str(path))
