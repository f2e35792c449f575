"""Line charts as SVG files: axes, curves, marks and a legend, readable on white and on black.

Text is escaped; numbers are printed to a tenth of a pixel, so equal rows give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.text.plain import in_html

# Okabe and Ito's colours, told apart by people with any colour vision; dashes tell the same
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#767676")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5", "1 4", "12 4")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 70, 20, 36, 56
ENTRY = 19  # height of one name in the legend
STYLE = (
    "svg{font:13px system-ui,sans-serif;fill:#222;background:#fff}.g{stroke:#ddd}.r{text-anchor:end}"
    ".m{text-anchor:middle}.t{font-weight:600}polyline{fill:none;stroke-width:2}"
    "@media (prefers-color-scheme:dark){svg{fill:#ddd;background:#111}.g{stroke:#333}}"
)


@dataclass(frozen=True)
class Curve:
    """One curve or set of marks.

    Attributes:
        name: in the legend.
        points: x and y.
        marks: whether points are drawn as dots, with ``labels`` beside them.
        line: whether points are joined.
        labels: one a point, or none.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    marks: bool = False
    line: bool = True
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: above it, and its text for those who cannot see it.
        across, up: names of the axes.
        curves: what is drawn.
        log: axes that are logarithmic, ``x``, ``y`` or both; values at or below zero are then left out.
    """

    title: str
    across: str
    up: str
    curves: tuple[Curve, ...]
    log: Literal["", "x", "y", "xy"] = ""


@dataclass(frozen=True)
class Axis:
    """Data to pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool

    def at(self, value: float) -> float:
        """Pixel of a value."""
        low, high, v = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (v - low) / ((high - low) or 1.0) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if last - first < 4 else (1,)
            found = [m * 10.0**e for e in range(first, last + 1) for m in steps]
            return [tick for tick in found if self.low <= tick <= self.high]
        raw = (self.high - self.low) / 5 or 1.0
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def svg(chart: Chart) -> str:
    """The chart as an SVG file; without points it says so."""
    shown = [_positive(curve, chart.log) for curve in chart.curves]
    points = [point for curve in shown for point in curve.points]
    if not points:
        none = f'<text x="{WIDTH / 2}" y="200" class="m">no points</text>'
        return _file(chart.title, HEIGHT, [none])
    names = [curve.name for curve in shown]
    band = ENTRY * len(names) if len(names) > 1 else 0  # the legend stands above the axes
    bottom = HEIGHT + band - BOTTOM
    across = _axis([x for x, _ in points], LEFT, WIDTH - RIGHT, log="x" in chart.log)
    up = _axis([y for _, y in points], bottom, TOP + band, log="y" in chart.log)
    parts = _grid(across, up)
    for number, curve in enumerate(shown):
        parts += _curve(curve, across, up, number)
    parts.append(f'<text x="{WIDTH / 2}" y="{bottom + 42}" class="m">{_text(chart.across)}</text>')
    middle = (bottom + TOP + band) / 2
    parts.append(
        f'<text transform="translate(16 {middle:.0f}) rotate(-90)" class="m">{_text(chart.up)}</text>'
    )
    return _file(chart.title, HEIGHT + band, parts + _legend(names))


def _positive(curve: Curve, log: str) -> Curve:
    kept = [
        at
        for at, (x, y) in enumerate(curve.points)
        if (x > 0 or "x" not in log) and (y > 0 or "y" not in log)
    ]
    labels = tuple(curve.labels[at] for at in kept) if curve.labels else ()
    points = tuple(curve.points[at] for at in kept)
    return Curve(curve.name, points, curve.marks, curve.line, labels)


def _axis(values: Sequence[float], start: float, stop: float, *, log: bool) -> Axis:
    low, high = min(values), max(values)
    if log:
        return Axis(low / 1.2, high * 1.2, start, stop, True)
    room = 0.05 * (high - low or abs(high) or 1.0)
    return Axis(0.0 if 0 <= low < 0.3 * high else low - room, high + room, start, stop, False)


def _grid(across: Axis, up: Axis) -> list[str]:
    parts = []
    for tick in across.ticks():
        x = across.at(tick)
        parts.append(
            f'<line x1="{x:.1f}" y1="{up.stop:.1f}" x2="{x:.1f}" y2="{up.start:.1f}" class="g"/>'
            f'<text x="{x:.1f}" y="{up.start + 18:.1f}" class="m">{tick:g}</text>'
        )
    for tick in up.ticks():
        y = up.at(tick)
        parts.append(
            f'<line x1="{across.start:.1f}" y1="{y:.1f}" x2="{across.stop:.1f}" y2="{y:.1f}" class="g"/>'
            f'<text x="{across.start - 8:.1f}" y="{y + 4:.1f}" class="r">{tick:g}</text>'
        )
    return parts


def _curve(curve: Curve, across: Axis, up: Axis, number: int) -> list[str]:
    colour, dash = _look(number)
    pixels = [(across.at(x), up.at(y)) for x, y in curve.points]
    parts = []
    if curve.line and len(pixels) > 1:
        trail = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
        parts.append(f'<polyline points="{trail}" stroke="{colour}"{dash}/>')
    if curve.marks or len(pixels) == 1:
        labels = curve.labels or ("",) * len(pixels)
        for (x, y), (a, b), label in zip(pixels, curve.points, labels, strict=True):
            told = _text(f"{label or curve.name}: {a:.4g}, {b:.4g}")
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"><title>{told}</title></circle>'
            )
            if label:
                parts.append(f'<text x="{x + 8:.1f}" y="{y - 7:.1f}">{_text(label)}</text>')
    return parts


def _legend(names: Sequence[str]) -> list[str]:
    parts, x, y = [], float(LEFT), TOP
    if len(names) > 1:
        for number, name in enumerate(names):
            colour, dash = _look(number)
            parts.append(
                f'<polyline points="{x:.0f},{y} {x + 24:.0f},{y}" stroke="{colour}"{dash}/>'
                f'<text x="{x + 30:.0f}" y="{y + 4}">{_text(name)}</text>'
            )
            y += ENTRY
    return parts


def _look(number: int) -> tuple[str, str]:
    dash = DASHES[number % len(DASHES)]
    return COLOURS[number % len(COLOURS)], f' stroke-dasharray="{dash}"' if dash else ""


def _file(title: str, height: int, parts: Sequence[str]) -> str:
    head = _text(title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{head}"><style>{STYLE}</style>'
        f'<text x="12" y="20" class="t">{head}</text>{"".join(parts)}</svg>\n'
    )


def _text(value: str) -> str:
    return in_html(value)
