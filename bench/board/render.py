"""Tables as Markdown, CSV, LaTeX and HTML. Everything in a cell is untrusted text until it is escaped."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.plain_text import in_html, neutral, one_line

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
    """

    key: str
    head: str
    show: Callable[[Any], str] = text
    number: bool = False


@dataclass(frozen=True)
class Table:
    """A table: columns, groups of lines and notes.

    Attributes:
        title: heading.
        notes: sentences above the table.
        groups: name of the group (may be empty) and its lines, by column key.
    """

    title: str
    columns: tuple[Column, ...]
    groups: tuple[tuple[str, tuple[Cells, ...]], ...]
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns that have a heading and at least one value."""
        lines = [line for _, group in self.groups for line in group]
        return tuple(
            column
            for column in self.columns
            if column.head and any(column.show(line.get(column.key)) != NOTHING for line in lines)
        )


def escape_markdown(value: str) -> str:
    r"""Text that Markdown and the HTML in it leave alone; line breaks become spaces, ``|`` ``\|``."""
    return neutral(value, "md")


def escape_latex(value: str) -> str:
    """Text that LaTeX prints as it stands."""
    return neutral(value, "tex")


def to_markdown(table: Table, level: int = 1) -> str:
    """A table as Markdown: a heading, the notes and one pipe table a group.

    Args:
        table: what is shown.
        level: of the heading, 1 for ``#``.
    """
    parts = [f"{'#' * level} {escape_markdown(table.title)}", ""]
    parts += [f"- {escape_markdown(note)}" for note in table.notes]
    heads = [escape_markdown(column.head) for column in table.shown]
    rule = ["---:" if column.number else "---" for column in table.shown]
    for name, lines in table.groups:
        if not lines:
            continue
        parts += ["", f"{'#' * (level + 1)} {escape_markdown(name)}"] if name else []
        parts += ["", _pipes(heads), _pipes(rule)]
        parts += [
            _pipes([escape_markdown(c.show(line.get(c.key))) for c in table.shown])
            for line in lines
        ]
    return "\n".join(parts) + "\n"


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


def to_html(table: Table, level: int = 3) -> str:
    """A table as HTML: a heading, the notes and one table with a body a group.

    Args:
        table: what is shown.
        level: of the heading, 1 for ``<h1>``.
    """
    parts = [f"<h{level}>{in_html(table.title)}</h{level}>"]
    if table.notes:
        notes = "".join(f"<li>{in_html(note)}</li>" for note in table.notes)
        parts.append(f'<ul class="notes">{notes}</ul>')
    heads = "".join(f"<th>{in_html(column.head)}</th>" for column in table.shown)
    parts.append(f'<div class="wide"><table><thead><tr>{heads}</tr></thead>')
    for name, lines in table.groups:
        if not lines:
            continue
        parts.append("<tbody>")
        if name:
            span = f'<tr class="group"><th colspan="{len(table.shown)}">{in_html(name)}</th></tr>'
            parts.append(span)
        parts += [_html_line(table.shown, line) for line in lines]
        parts.append("</tbody>")
    return "\n".join([*parts, "</table></div>"])


def _html_line(columns: Sequence[Column], line: Cells) -> str:
    cells = (
        f"<td{' class=n' if c.number else ''}>{in_html(c.show(line.get(c.key)))}</td>"
        for c in columns
    )
    return f"<tr>{''.join(cells)}</tr>"
