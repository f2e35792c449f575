"""Tables as Markdown, CSV and LaTeX. Everything in a cell is untrusted text until it is escaped."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.text.plain import neutral, one_line

NOTHING = "—"
Cells = Mapping[str, Any]


def text(value: Any) -> str:
    """A value as text; a dash for None."""
    return NOTHING if value is None or value == "" else str(value)


def score(value: Any) -> str:
    """A number with four decimals."""
    return NOTHING if value is None else f"{value:.4f}"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its name in CSV.
        head: its heading elsewhere; empty for a column that only CSV has.
        show: value to text.
        number: aligned to the right.
        covers: keys of the columns that say a part of what this one says.
    """

    key: str
    head: str
    show: Callable[[Any], str] = text
    number: bool = False
    covers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table: columns, groups of lines and notes.

    Attributes:
        title: heading.
        notes: sentences above the table.
        groups: name of the group (may be empty) and its lines, by column key.
        lead: the few columns that people see first, of each group those with a value; empty where there are
            no more than a few.
    """

    title: str
    columns: tuple[Column, ...]
    groups: tuple[tuple[str, tuple[Cells, ...]], ...]
    notes: tuple[str, ...] = ()
    lead: tuple[Column, ...] = ()

    @cached_property
    def shown(self) -> tuple[Column, ...]:
        """The columns that have a heading and at least one value."""
        lines = [line for _, group in self.groups for line in group]
        return with_values([column for column in self.columns if column.head], lines)

    @cached_property
    def details(self) -> tuple[Column, ...]:
        """The columns shown that ``lead`` does not have."""
        told = {key for column in self.lead for key in (column.key, *column.covers)}
        return tuple(column for column in self.shown if column.key not in told)


def with_values(columns: Iterable[Column], lines: Sequence[Cells]) -> tuple[Column, ...]:
    """The columns in which any of the lines has a value."""
    return tuple(c for c in columns if any(c.show(line.get(c.key)) != NOTHING for line in lines))


def escape_markdown(value: str) -> str:
    r"""Text that Markdown and the HTML in it leave alone; line breaks become spaces, ``|`` ``\|``."""
    return neutral(value, "md")


def escape_latex(value: str) -> str:
    """Text that LaTeX prints as it stands."""
    return neutral(value, "tex")


def to_markdown(table: Table, level: int = 1, *, details: bool = True) -> str:
    """A table as Markdown: a heading, the notes and one pipe table a group.

    Where the table has ``lead``, these columns stand first and the others in a second table below.

    Args:
        table: what is shown.
        level: of the heading, 1 for ``#``.
        details: whether the second table is written.
    """
    parts = [f"{'#' * level} {escape_markdown(table.title)}", ""]
    parts += [f"- {escape_markdown(note)}" for note in table.notes]
    parts += _groups(table, table.lead or table.shown, level + 1)
    if table.lead and details:
        name = [column for column in table.lead if column.covers]
        parts += ["", f"{'#' * (level + 1)} Details"]
        parts += _groups(table, (*name, *table.details), level + 2)
    return "\n".join(parts) + "\n"


def _groups(table: Table, columns: Sequence[Column], level: int) -> Iterator[str]:
    """The lines of Markdown of some columns, a pipe table a group."""
    for name, lines in table.groups:
        if not lines:
            continue
        own = with_values(columns, lines)
        yield from ["", f"{'#' * level} {escape_markdown(name)}"] if name else []
        yield from ["", _pipes([escape_markdown(column.head) for column in own])]
        yield _pipes(["---:" if column.number else "---" for column in own])
        for line in lines:
            yield _pipes([escape_markdown(c.show(line.get(c.key))) for c in own])


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def to_csv(table: Table) -> str:
    """All columns with plain values; empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["group", *(neutral(column.key, "csv") for column in table.columns)])
    for name, lines in table.groups:
        for line in lines:
            writer.writerow([name, *(_plain(line.get(c.key)) for c in table.columns)])
    return out.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return neutral(value, "csv")
    return round(value, 6) if isinstance(value, float) else value


def to_latex(table: Table) -> str:
    """A booktabs tabular without a preamble, for a document to read in."""
    alignment = "".join("r" if column.number else "l" for column in table.shown)
    parts = [f"% {one_line(note, len(note))}" for note in (table.title, *table.notes)]
    parts += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    parts.append(" & ".join(escape_latex(c.head) for c in table.shown) + r" \\")
    for name, lines in table.groups:
        if not lines:
            continue
        parts.append(r"\midrule")
        if name:
            span = rf"\multicolumn{{{len(table.shown)}}}{{l}}{{\textit{{{escape_latex(name)}}}}} \\"
            parts.append(span)
        parts += [
            " & ".join(escape_latex(c.show(line.get(c.key))) for c in table.shown) + r" \\"
            for line in lines
        ]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"]) + "\n"
