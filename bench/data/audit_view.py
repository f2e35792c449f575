"""An audit as an aligned text table and as one self-contained SVG."""

from __future__ import annotations

from html import escape
from typing import Final

from bench.data.audit import Audit, Fact

WIDTH, HEIGHT, PAD, GAP = 340, 220, 44, 40  # of one panel, in px
COLOURS: Final = {"train": "#4269d0", "valid": "#efb118", "test": "#d6455d"}


def table(audit: Audit) -> str:
    """The facts by section in two aligned columns, and the notes below; ends with a newline."""
    names = [name for section in audit.facts.values() for name in section]
    wide = max(map(len, names))
    values = [_written(v) for section in audit.facts.values() for v in section.values()]
    right = max(map(len, values))
    lines = [f"{audit.name}  (version {audit.version})"]
    for title, section in audit.facts.items():
        lines += ["", title]
        lines += [f"  {name:<{wide}}  {_written(v):>{right}}" for name, v in section.items()]
    if audit.notes:
        lines += ["", "notes", *(f"  - {note}" for note in audit.notes)]
    return "\n".join(lines) + "\n"


def _written(fact: Fact) -> str:
    if fact is None:
        return "not known"
    if isinstance(fact, float):
        return f"{fact:.6f}" if 0 < abs(fact) < 0.001 else f"{fact:.4f}"
    return f"{fact:,}" if isinstance(fact, int) else fact


def svg(audit: Audit) -> str:
    """Popularity curve and history lengths side by side; one <svg>, no script, no outside reference."""
    wide, high = 2 * WIDTH + GAP, HEIGHT + 30
    name = escape(audit.name)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" '
        f'height="{high}" role="img" font-family="sans-serif" font-size="11">'
        f"<title>{name}: popularity and history lengths</title>"
        f'<rect width="{wide}" height="{high}" fill="#fff"/>'
        f'<text x="8" y="16" font-weight="bold">{name} (version {escape(audit.version)})</text>'
        f'<g transform="translate(0 24)">{_curve(audit)}</g>'
        f'<g transform="translate({WIDTH + GAP} 24)">{_histogram(audit)}</g></svg>\n'
    )


def _frame(x_label: str, y_label: str) -> str:
    left, bottom, right = PAD, HEIGHT - PAD, WIDTH - 8
    return (
        f'<path d="M{left} 8V{bottom}H{right}" fill="none" stroke="#333"/>'
        f'<text x="{(left + right) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{x_label}</text>'
        f'<text transform="translate(12 {bottom / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{y_label}</text>"
    )


def _place(x: float, y: float) -> tuple[float, float]:
    """Panel pixels of a point whose coordinates are fractions of the axes."""
    return PAD + x * (WIDTH - 8 - PAD), HEIGHT - PAD - y * (HEIGHT - PAD - 8)


def _tick(text: str, x: float, y: float, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#555">{text}</text>'


def _curve(audit: Audit) -> str:
    curve = audit.popularity_curve
    last = len(curve) - 1
    points = [_place(i / last, share) for i, share in enumerate(curve)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    ticks = []
    for percent in (0, 25, 50, 75, 100):
        x, y = _place(percent / 100, percent / 100)
        ticks.append(_tick(str(percent), x, HEIGHT - PAD + 14, "middle"))
        ticks.append(_tick(str(percent), PAD - 4, y + 4, "end"))
    (x0, y0), (x1, y1) = _place(0, 0), _place(1, 1)
    even = f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" stroke="#bbb" stroke-dasharray="4"/>'
    line = f'<polyline points="{path}" fill="none" stroke="{COLOURS["train"]}" stroke-width="2"/>'
    labels = _frame("% of items, most popular first", "% of training targets")
    return labels + "".join(ticks) + even + line


def _histogram(audit: Audit) -> str:
    longest = max(len(counts) for counts in audit.history_lengths.values())
    shares = {
        part: [n / max(1, sum(counts)) for n in counts]
        for part, counts in audit.history_lengths.items()
    }
    top = max(max(share) for share in shares.values())
    slot = 1 / longest
    bars = []
    for place, (part, values) in enumerate(shares.items()):
        for length, share in enumerate(values):
            x, y = _place((length + 0.1 + 0.27 * place) * slot, share / top)
            wide = 0.27 * slot * (WIDTH - 8 - PAD)
            bars.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" '
                f'height="{HEIGHT - PAD - y:.1f}" fill="{COLOURS[part]}"/>'
            )
        bars.append(_tick(part, PAD + 30 + 50 * place, 16, "middle").replace("#555", COLOURS[part]))
    every = max(1, longest // 11)
    for length in range(0, longest, every):
        x, _ = _place((length + 0.5) * slot, 0)
        bars.append(_tick(str(length), x, HEIGHT - PAD + 14, "middle"))
    for share in (0.0, top / 2, top):
        bars.append(_tick(f"{100 * share:.0f}", PAD - 4, _place(0, share / top)[1] + 4, "end"))
    return _frame("items in the history", "% of rows") + "".join(bars)
