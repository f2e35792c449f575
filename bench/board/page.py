"""One self-contained HTML page: every table and plot, no scripts, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.board.leaderboard import Leaderboard
from bench.board.plots import COLOURS, forest, pareto, warm_cold
from bench.board.render import Table, to_html
from bench.plain_text import in_html

STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1c;--soft:#666;--line:#ddd;--back:#fff}
@media (prefers-color-scheme:dark){:root{--ink:#e8e8e8;--soft:#a0a0a0;--line:#3a3a3a;--back:#161616}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--back)}
body{margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.6rem}h2{margin-top:3rem;border-bottom:2px solid var(--line)}h3{margin-top:2.2rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
td.n{text-align:right;white-space:nowrap}
tr.group th{padding-top:.9rem;color:var(--soft);font-weight:600}
ul.notes{color:var(--soft);font-size:13px;padding-left:1.1rem}
figure{margin:1.5rem 0}figcaption{font-size:13px;font-weight:600}
svg{max-width:760px;width:100%;display:block;margin:1rem 0}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg .r{text-anchor:end}svg .m{text-anchor:middle;fill:var(--soft)}
svg .g{stroke:var(--line)}svg .pareto{fill:none;stroke:var(--soft);stroke-dasharray:4 4}
.key span{margin-right:1.2rem;white-space:nowrap}nav a{margin-right:1rem}
""".strip()


@dataclass(frozen=True)
class Section:
    """One board on the page: its overall table and, by dataset, leaderboard and tables."""

    name: str
    overall: Table
    datasets: tuple[tuple[Leaderboard, Table, Table], ...]


def page(sections: Sequence[Section]) -> str:
    """The whole page."""
    links = "".join(f'<a href="#{in_html(s.name)}">{in_html(s.name)}</a>' for s in sections)
    symbols = {"floor": "■", "traditional": "●", "enhanced": "◆", "llm": "▲"}
    key = "".join(
        f'<span style="color:{colour}">{symbols[family]} {family}</span>'
        for family, colour in COLOURS.items()
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">",
        f"<title>Leaderboards</title><style>{STYLE}</style></head><body>",
        "<h1>Leaderboards</h1>",
        "<p>Made from the rows by <code>python -m bench board</code>. Boards of different scale, profile, "
        "protocol or test rows are never mixed.</p>",
        f'<nav>{links}</nav><p class="key">{key}</p>',
    ]
    for section in sections:
        parts.append(f'<h2 id="{in_html(section.name)}">{in_html(section.name)}</h2>')
        parts.append(to_html(section.overall))
        for leaderboard, quality, cost in section.datasets:
            parts.append(to_html(quality))
            if leaderboard.scored:
                parts += [forest(leaderboard), warm_cold(leaderboard), pareto(leaderboard)]
            parts.append(to_html(cost))
    return "\n".join([*(part for part in parts if part), "</body></html>"]) + "\n"
