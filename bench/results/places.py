"""Where rows and tables are by default: one's own, and those that came with the repository."""

from pathlib import Path

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
