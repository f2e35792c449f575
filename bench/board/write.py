"""Every table from the rows alone, at any moment; equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from bench.board.all_datasets import overall
from bench.board.costs import cost
from bench.board.entry import Entry
from bench.board.examples import read_examples
from bench.board.folder import check_ours, replace_files
from bench.board.leaderboard import rank_entries
from bench.board.page import page
from bench.board.readme import fill
from bench.board.render import Table, escape_markdown, to_csv, to_latex, to_markdown
from bench.board.rows import read_folder, tables_of, with_published
from bench.board.section import Section
from bench.board.tables import overall_table, quality
from bench.experiment.suite import warning_of
from bench.results.cache import Cache
from bench.results.row_files import Tell, stop
from bench.results.table_key import TableKey, names

FORMATS = {".md": to_markdown, ".csv": to_csv, ".tex": to_latex}
HEAD = (
    "# Leaderboards\n\nMade from `rows/` by `python -m bench board`; nobody edits a table by hand. "
    "One page with plots: [index.html](index.html). A board is one scale, profile and protocol; numbers "
    "of two boards are not comparable.\n"
)


def write_board(
    rows_folder: str | Path,
    out_folder: str | Path,
    published: Path | None = None,
    readme: Path | None = None,
    tell: Tell = stop,
    hear: Callable[[Sequence[Section]], object] = lambda sections: None,
) -> list[Path]:
    """Write all tables of all rows; returns the files, sorted.

    Under ``out_folder``: ``README.md``, ``index.html`` and ``tables/<board>/<dataset>/`` with quality and
    cost as Markdown, CSV and LaTeX. Tables that this function wrote and whose rows are gone are removed;
    no other file is touched. What was computed is kept in ``.cache`` beside ``rows_folder``, which may be
    deleted at any moment.

    Args:
        rows_folder: where the rows are.
        out_folder: where the tables go.
        published: rows of others, shown in the tables that have rows of one's own; None for none.
        readme: a file with marks for an excerpt, which it is given; None for none.
        tell: hears of files of rows that are left out; by default the first of them is an error.
        hear: is given the boards, once they are written.

    Raises:
        ConfigError: ``out_folder`` is not the suite's, or a file in it was changed since it was written.
        DataError: a file is not a row, or two rows of a table were examined on different queries.
        ArtefactError: the positions beside a finished row are missing or damaged.
    """
    rows, out = Path(rows_folder), Path(out_folder)
    check_ours(out)
    cache = Cache.beside(rows)
    found = read_folder(rows, tell) if published is None else with_published(rows, published, tell)
    tables = tables_of(found, cache, published, tell)
    sections = build(tables, cache)
    cache.forget_unused()
    homes = [folder.parent for folder in (published, rows) if folder is not None]
    files = {
        "README.md": _index(sections),
        "index.html": page(sections, read_examples(homes, tables)),
    }
    for section in sections:
        home = f"tables/{section.name}"
        files |= _files(f"{home}/overall", section.overall)
        folder = names(leaderboard.key for leaderboard, _, _ in section.datasets)
        for leaderboard, table, bill in section.datasets:
            files |= _files(f"{home}/{folder[leaderboard.key]}/quality", table)
            files |= _files(f"{home}/{folder[leaderboard.key]}/cost", bill)
    paths = replace_files(out, files)
    if readme is not None:
        fill(readme, sections)
    hear(sections)
    return paths


def build(tables: Mapping[TableKey, Sequence[Entry]], cache: Cache | None = None) -> list[Section]:
    """Boards with their tables, in a fixed order.

    Args:
        tables: the entries of each.
        cache: where their statistics may lie from an earlier call.
    """
    leaderboards = [rank_entries(key, entries, cache) for key, entries in tables.items()]
    sections = []
    for name, group in groupby(leaderboards, key=lambda leaderboard: leaderboard.key.board):
        board = list(group)
        column = names(leaderboard.key for leaderboard in board)
        waiting = [(column[s.key], line) for s in board for line in s.lines if line.mean is None]
        total = overall_table(overall(board), sorted(column.values()), waiting)
        tables_here = tuple((s, quality(s), cost(s)) for s in board)
        sections.append(Section(name, total, tables_here))
    return sections


def _files(stem: str, table: Table) -> dict[str, str]:
    return {stem + suffix: write(table) for suffix, write in FORMATS.items()}


def _index(sections: Sequence[Section]) -> str:
    parts = [HEAD]
    for section in sections:
        home = f"tables/{section.name}"
        parts.append(f"## {escape_markdown(section.name)}\n")
        if warning := warning_of(section.scale):
            parts.append(f"Scale {section.scale}: {escape_markdown(warning)}.\n")
        folder = names(leaderboard.key for leaderboard, _, _ in section.datasets)
        for leaderboard, _, _ in section.datasets:
            tables = f"{home}/{folder[leaderboard.key]}"
            numbers = (
                f"{len(leaderboard.scored)} of {len(leaderboard.lines)} configurations have numbers"
            )
            name = escape_markdown(folder[leaderboard.key])
            parts.append(
                f"- **{name}**: [quality]({tables}/quality.md), [cost]({tables}/cost.md); {numbers}"
            )
        parts.append(f"- **All datasets**: below; [with geometric means]({home}/overall.md)\n")
        parts.append(to_markdown(section.overall, level=3, details=False))
    if not sections:
        parts.append(
            "No rows yet: `python -m bench run --suite paper` makes them. Cells that were taken from "
            "published rows (`--reuse rows`) are on the published board.\n"
        )
    return "\n".join(parts)
