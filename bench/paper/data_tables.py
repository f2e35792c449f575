"""Tables 4 and 7: what the data are, and how long a trie of their titles takes to build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.board.render import Cells, Table
from bench.claims.paper import read
from bench.paper.evidence import Evidence
from bench.paper.piece import NOT_RUN, Piece, columns

MEASURE = "BENCH_DATA=... python -m bench paper --tries"
COUNTS = ("users", "items", "interactions")


def table4(evidence: Evidence) -> Piece:
    """Statistics of the datasets, with the average number of valid tokens (AVT)."""
    rows = read("table4.csv")
    lines = []
    for row in rows:
        own = evidence.tries.get(row["dataset"])
        line: dict[str, Any] = {"dataset": row["dataset"]}
        for name in COUNTS:
            line[name] = f"{int(row[name]):,} | {_whole(own, name)}"
        density = None if own is None else f"{100 * own['density']:.4f}"
        line["density"] = f"{row['density_percent']} | {density or NOT_RUN}"
        line["avt"] = f"{row['avt']} | {_decimal(own, 'avt')}"
        line["other"] = _other_tokens(evidence, row["dataset"])
        lines.append(line)
    names = {
        **{
            "dataset": "Dataset",
            "users": "Users",
            "items": "Items",
            "interactions": "Interactions",
        },
        **{"density": "Density, %", "avt": "AVT (Llama 3)", "other": "AVT with other tokenizers"},
    }
    notes = (
        "Published | ours. Interactions are rebuilt from the published windows, first items included.",
        "AVT: mean number of valid tokens over all answer positions, end tokens included, of the 10,000 "
        "training rows that language models get.",
    )
    return _piece("table4", "Table 4: datasets", names, lines, notes, evidence)


def table7(evidence: Evidence) -> Piece:
    """Seconds to build the trie."""
    lines = []
    for row in read("table7.csv"):
        own = evidence.tries.get(row["dataset"])
        lines.append(
            {
                "dataset": row["dataset"],
                "published": row["trie_seconds"],
                "build": _decimal(own, "build_seconds", 3),
                "whole": _decimal(own, "with_tokenizing_seconds", 3),
                "size": None
                if own is None
                else f"{own['leaves']:,} titles, {own['edges']:,} edges",
            }
        )
    names = {
        **{"dataset": "Dataset", "published": "Published, s", "build": "Ours, s"},
        **{"whole": "Ours with tokenising, s", "size": "Trie (Llama 3)"},
    }
    notes = (
        "One thread of the machine that measured; the paper's machine is not named for this table.",
    )
    return _piece("table7", "Table 7: building the trie", names, lines, notes, evidence)


def _piece(
    name: str,
    title: str,
    names: Mapping[str, str],
    lines: list[dict[str, Any]],
    notes: tuple[str, ...],
    evidence: Evidence,
) -> Piece:
    have = sum(line["dataset"] in evidence.tries for line in lines)
    cells: tuple[Cells, ...] = tuple(lines)
    table = Table(title, columns(names), (("", cells),), notes)
    made = MEASURE if have < len(lines) else ""
    return Piece(name, title, table, command=made, have=have, all=len(lines))


def _whole(own: Mapping[str, Any] | None, name: str) -> str:
    return NOT_RUN if own is None else f"{own[name]:,}"


def _decimal(own: Mapping[str, Any] | None, name: str, digits: int = 2) -> str:
    return NOT_RUN if own is None else f"{own[name]:.{digits}f}"


def _other_tokens(evidence: Evidence, dataset: str) -> str | None:
    """AVT of each backbone that was run on 10,000 rows of a dataset."""
    found = {}
    for line in evidence.lines:
        facts, cell = line.row.facts, line.cell
        if cell.dataset == dataset and cell.backbone and facts.get("avt"):
            found[cell.backbone, cell.train_rows] = float(facts["avt"])
    said = (
        f"{name}: {avt:.2f} on {rows} rows" for (name, rows), avt in sorted(found.items(), key=str)
    )
    return "; ".join(said) or None
