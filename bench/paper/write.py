"""Writes every table and figure of the paper, and an index that tells what was run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.board.folder import replace_files
from bench.board.render import Table, to_markdown
from bench.paper.adaptive import adaptive
from bench.paper.data_tables import table4, table7
from bench.paper.evidence import Evidence, gather
from bench.paper.piece import Piece, columns
from bench.paper.scores import table3, table5, table6
from bench.paper.sweeps import figure6, figure7
from bench.paper.training_figures import figure3, figure4, figure5, figure8, temperature

TRIES = "tries.json"  # in the folder of the tables: they carry what they were made from
PIECES: Sequence[Callable[[Evidence], Piece]] = (
    *(table3, table4, table5, table6, table7),
    *(figure3, figure4, figure5, figure6, figure7, figure8),
    *(adaptive, temperature),
)
ABOUT = (
    "Every table and figure of the MSL paper (SIGIR 2025), our numbers beside the published ones, made by "
    "python -m bench paper from stored rows. Scale, backbone and other departures of our lines: "
    "python -m bench claims.",
)


def write_paper(
    folders: Sequence[Path], out: Path, tries: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Piece]:
    """Make all pieces and write them into a folder.

    Args:
        folders: of rows, one's own before published ones.
        out: the folder; empty, missing or written by the suite.
        tries: new statistics of the tries; None for those that the folder holds.

    Raises:
        DataError: a row or the statistics cannot be read.
        ConfigError: the folder holds other files.
    """
    evidence = gather(folders, out / TRIES)
    if tries is not None:
        evidence = Evidence(evidence.lines, {**evidence.tries, **tries})
    pieces = [make(evidence) for make in PIECES]
    files = {name: text for piece in pieces for name, text in piece.files().items()}
    files["README.md"] = to_markdown(index(pieces))
    if evidence.tries:
        files[TRIES] = json.dumps(evidence.tries, indent=1, sort_keys=True) + "\n"
    replace_files(out, files)
    return pieces


def index(pieces: Sequence[Piece]) -> Table:
    """What there is, how much of it was run, and what would make the rest.

    Args:
        pieces: tables and figures.
    """
    lines = tuple(
        {"file": f"{one.name}.md", "title": one.title, "state": one.state, "command": one.command}
        for one in pieces
    )
    names = {"title": "What", "file": "File", "state": "Ours", "command": "What makes the rest"}
    return Table("The paper, whole", columns(names), (("", lines),), ABOUT)
