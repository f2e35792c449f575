"""Three plots as inline SVG: quality with intervals, quality against cost, warm against cold.

Text in them is escaped; numbers are printed to a tenth of a pixel, so equal rows give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.board.leaderboard import Leaderboard, Line
from bench.cell import HEADLINE
from bench.plain_text import in_html

# Okabe and Ito's colours, told apart by people with any colour vision; symbols tell the same
COLOURS = {"floor": "#767676", "traditional": "#0072B2", "enhanced": "#009E73", "llm": "#D55E00"}
WIDTH, PAD, STEP = 760, 50, 22


@dataclass(frozen=True)
class Point:
    """A mark with its interval, all in data units."""

    number: int
    name: str
    family: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """Data to pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def at(self, value: float) -> float:
        """Pixel of a value."""
        a, b, v = (
            (math.log10(x) if self.log else x)
            for x in (self.low, self.high, max(value, self.low) if self.log else value)
        )
        return self.start + (v - a) / ((b - a) or 1.0) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**e for e in range(first, last + 1)]
        raw = (self.high - self.low) / 5 or 1.0
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def forest(leaderboard: Leaderboard) -> str:
    """NDCG@10 of every line with its 95 % interval, in the order of the table."""
    points = _points(leaderboard)
    top = max((p.high for p in points), default=0.0) or 1.0
    left, height = 330, 40 + STEP * len(points)
    axis = Axis(0.0, top, left, WIDTH - 20)
    parts = [_tick_x(axis, tick, 10, height - 30) for tick in axis.ticks()]
    for row, p in enumerate(points):
        y = 20 + STEP * row
        label = in_html(_short(f"{p.number}  {p.name}", 46))
        parts.append(f'<text x="{left - 12}" y="{y + 4:.1f}" class="r">{label}</text>')
        parts.append(_bar(axis.at(p.low), y, axis.at(p.high), y, p.family))
        parts.append(_mark(p, axis.at(p.x), y))
    return _svg(
        "NDCG@10 with 95 % intervals; the numbers are used in the plots below", height, parts
    )


def pareto(leaderboard: Leaderboard) -> str:
    """NDCG@10 against seconds to fit and recommend; a line joins the methods on the Pareto front."""
    points = [p for p in _points(leaderboard, seconds=True) if p.x > 0]
    if len(points) < 2:
        return ""
    low, high = min(p.x for p in points), max(p.x for p in points)
    across = Axis(low / 1.5, high * 1.5, PAD + 20, WIDTH - 20, log=True)
    up = Axis(0.0, max(p.high for p in points) or 1.0, 330, 15)
    efficient: list[Point] = []
    for p in sorted(points, key=lambda p: (p.x, -p.y)):
        if not efficient or p.y > efficient[-1].y:
            efficient.append(p)
    trail = " ".join(f"{across.at(p.x):.1f},{up.at(p.y):.1f}" for p in efficient)
    parts = [f'<polyline points="{trail}" class="pareto"/>']
    parts += _scatter(points, across, up)
    return _svg(
        "NDCG@10 (up) against seconds to fit and recommend, needed cells included (across, logarithmic)",
        370,
        _axes(across, up) + parts,
    )


def warm_cold(leaderboard: Leaderboard) -> str:
    """NDCG@10 on warm targets (seen in training) against that on cold ones (never seen)."""
    points = []
    for p, line in zip(_points(leaderboard), leaderboard.scored, strict=True):
        warm, cold = (line.entry.mean(HEADLINE, part) for part in ("warm", "cold"))
        if warm is not None and cold is not None:
            points.append(Point(p.number, p.name, p.family, warm, cold, cold, cold))
    if len(points) < 2:
        return ""
    across = Axis(0.0, 1.05 * max(p.x for p in points) or 1.0, PAD + 20, WIDTH - 20)
    up = Axis(0.0, 1.05 * max(p.y for p in points) or 1.0, 330, 15)
    parts = _axes(across, up) + _scatter(points, across, up)
    return _svg("NDCG@10 on warm targets (across) and on cold targets (up)", 370, parts)


def seconds_of(line: Line) -> float | None:
    """Mean seconds over seeds to fit, to make what was needed, and to recommend; None if unmeasured."""
    total = 0.0
    for row in line.entry.done:
        for phase in ("fit", "recommend"):
            spent = row.cost.get(phase, {}).get("seconds")
            if spent is None:
                return None
            total += spent
        total += float(row.facts.get("upstream_seconds") or 0.0)
    return total / len(line.entry.done) if line.entry.done else None


def _points(leaderboard: Leaderboard, *, seconds: bool = False) -> list[Point]:
    points = []
    for number, line in enumerate(leaderboard.scored, start=1):
        mean, low, high = line.mean or 0.0, line.low or 0.0, line.high or 0.0
        x = seconds_of(line) or 0.0 if seconds else mean
        points.append(Point(number, line.entry.full_name, line.entry.family, x, mean, low, high))
    return points


def _scatter(points: Sequence[Point], across: Axis, up: Axis) -> list[str]:
    parts = []
    for p in points:
        x, y = across.at(p.x), up.at(p.y)
        if p.high > p.low:
            parts.append(_bar(x, up.at(p.low), x, up.at(p.high), p.family))
        parts.append(_mark(p, x, y))
        parts.append(f'<text x="{x + 8:.1f}" y="{y - 6:.1f}">{p.number}</text>')
    return parts


def _axes(across: Axis, up: Axis) -> list[str]:
    parts = [_tick_x(across, tick, up.stop, up.start) for tick in across.ticks()]
    for tick in up.ticks():
        y = up.at(tick)
        parts.append(
            f'<line x1="{across.start:.1f}" y1="{y:.1f}" x2="{across.stop:.1f}" y2="{y:.1f}" class="g"/>'
            f'<text x="{across.start - 8:.1f}" y="{y + 4:.1f}" class="r">{tick:g}</text>'
        )
    return parts


def _tick_x(axis: Axis, tick: float, top: float, bottom: float) -> str:
    x = axis.at(tick)
    return (
        f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" class="g"/>'
        f'<text x="{x:.1f}" y="{bottom + 16:.1f}" class="m">{tick:g}</text>'
    )


def _bar(x1: float, y1: float, x2: float, y2: float, family: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{_colour(family)}" stroke-width="2" opacity=".55"/>'
    )


def _mark(p: Point, x: float, y: float) -> str:
    symbol = {
        "floor": f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"',
        "traditional": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"',
        "enhanced": f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"',
    }.get(p.family, f'<path d="M{x:.1f} {y - 6:.1f}l6 10h-12z"')
    told = in_html(f"{p.number} {p.name}: {p.y:.4f}")
    return f'{symbol} fill="{_colour(p.family)}"><title>{told}</title>{_closing(symbol)}'


def _closing(symbol: str) -> str:
    return f"</{symbol[1:].split()[0]}>"


def _colour(family: str) -> str:
    return COLOURS.get(family, "#CC79A7")


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = in_html(title)
    return (
        f'<figure><figcaption>{head}</figcaption><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{head}">{"".join(parts)}</svg></figure>'
    )
