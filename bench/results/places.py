"""Where rows and tables are by default: one's own, and those that came with the repository."""

from __future__ import annotations

import os
from pathlib import Path

from bench.results.store import Store

RESULTS = Path("results")  # what `run` writes; git ignores it
BOARD = Path("leaderboards")  # the published board, which `publish` makes
OWN, PUBLISHED = RESULTS / "rows", BOARD / "rows"


def row_folders(named: str | Path | None = None) -> list[Path]:
    """The folder named; by default one's own rows and the published ones, as far as they are there.

    Args:
        named: a folder of rows.
    """
    return [Path(named)] if named else [folder for folder in (OWN, PUBLISHED) if folder.is_dir()]


def published_beside(rows: Path) -> Path | None:
    """The published rows to be read beside a folder of rows; None if there are none, or if it is theirs.

    Args:
        rows: folder of one's own rows.
    """
    there = PUBLISHED.is_dir() and rows.resolve() != PUBLISHED.resolve()
    return PUBLISHED if there else None


def default_store(out: str | Path = RESULTS, store: str | Path | None = None) -> Store:
    """Rows under ``out``/rows; the run store at ``store``, $BENCH_STORE or .bench; published rows beside.

    Args:
        out: folder of the tables; rows are in its folder ``rows``.
        store: folder for everything else of a cell; None for ``$BENCH_STORE``, else ``.bench``.
    """
    root = Path(store or os.environ.get("BENCH_STORE", ".bench"))
    rows = Path(out) / "rows"
    return Store(rows=rows, root=root.resolve(), published=published_beside(rows))


def default_data_root(given: str | Path | None = None) -> Path | None:
    """The folder given, else $BENCH_DATA, else None (each dataset's own default)."""
    value = given or os.environ.get("BENCH_DATA")
    return Path(value).resolve() if value else None
