"""One table or figure of the paper, as files, and the words for what was not run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bench.board.render import Cells, Column, Table, to_csv, to_markdown
from bench.paper.draw import Chart, svg

NOT_RUN = "not run"
DRAWN = "The paper has this as a drawing without numbers."


@dataclass(frozen=True)
class Piece:
    """One table or figure.

    Attributes:
        name: stem of its files, e.g. ``table5``.
        title: its heading.
        table: its numbers.
        points: of a figure, every point drawn, for the CSV file.
        charts: by suffix of the file name, the charts of a figure.
        command: what would make that which was not run; empty if all was.
        have, all: how many of its numbers or curves are ours, of how many.
    """

    name: str
    title: str
    table: Table
    points: Table | None = None
    charts: Mapping[str, Chart] = field(default_factory=dict)
    command: str = ""
    have: int = 0
    all: int = 0

    @property
    def state(self) -> str:
        """``not run``, or how much of it was."""
        return f"{self.have} of {self.all}" if self.have else NOT_RUN

    def files(self) -> dict[str, str]:
        """Its files by name: Markdown, CSV and, of a figure, one SVG a chart."""
        drawings = {f"{self.name}{suffix}.svg": svg(chart) for suffix, chart in self.charts.items()}
        text = to_markdown(self.table)
        for name, chart in zip(drawings, self.charts.values(), strict=True):
            text += f"\n![{_plain(chart.title)}]({name})\n"
        if self.command:
            said = "What is not run" if self.have else "Not run. This"
            text += f"\n{said} would be made by\n\n    {self.command}\n"
        return {
            f"{self.name}.md": text,
            f"{self.name}.csv": to_csv(self.points or self.table),
            **drawings,
        }


def drawn(
    name: str, title: str, charts: Mapping[str, Chart], notes: tuple[str, ...], made: str
) -> Piece:
    """A figure; its table tells where each curve begins and ends, its CSV file has all points.

    Args:
        name: stem of its files.
        title: its heading.
        charts: by suffix of the file name; empty if nothing was run.
        notes: sentences above the table.
        made: the command that would make it.
    """
    ends: list[Cells] = []
    points: list[Cells] = []
    for chart in charts.values():
        for curve in filter(lambda curve: curve.points, chart.curves):
            here = {"chart": chart.title, "curve": curve.name}
            (x, y), (last_x, last_y) = curve.points[0], curve.points[-1]
            first, last = f"{y:.4g} at {x:.4g}", f"{last_y:.4g} at {last_x:.4g}"
            ends.append({**here, "points": len(curve.points), "first": first, "last": last})
            labels = curve.labels or ("",) * len(curve.points)
            points += [
                {**here, "x": x, "y": y, "label": label}
                for (x, y), label in zip(curve.points, labels, strict=True)
            ]
    heads = {"chart": "Chart", "curve": "Curve", "points": "Points"}
    table = Table(
        title, columns({**heads, "first": "First", "last": "Last"}), (("", tuple(ends)),), notes
    )
    keys = {"chart": "chart", "curve": "curve", "label": "label", "x": "x", "y": "y"}
    whole = Table(title, columns(keys), (("", tuple(points)),))
    have = len(charts)
    return Piece(name, title, table, whole, charts, "" if have else made, have, have or 1)


def command(suite: str, *words: str) -> str:
    """The command that runs a part of a suite at the scale of the paper's data.

    Args:
        suite: its name.
        words: further options.
    """
    return " ".join(["python -m bench run", f"--suite {suite} --scale small", *words])


def columns(names: Mapping[str, str], numbers: Iterable[str] = ()) -> tuple[Column, ...]:
    """Columns by key and heading.

    Args:
        names: by key.
        numbers: keys that are aligned to the right.
    """
    right = set(numbers)
    return tuple(Column(key, head, number=key in right) for key, head in names.items())


def _plain(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")
