"""One self-contained HTML page: the findings, every board, and its plots. Nothing is fetched from anywhere.

The page holds its data as JSON and draws it with the script beside this file. A content security policy
admits that script and that style alone, by their hashes: text of strangers in the data runs nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bench.board.examples import Examples
from bench.board.findings import findings, summary
from bench.board.page.data import page_data
from bench.board.section import RULE, Section, first_section
from bench.experiment.suite import warning_of
from bench.results.table_key import TableKey
from bench.text.plain import in_html

HERE = Path(__file__).parent
SCRIPTS = ("basics.js", "table.js", "details.js", "charts.js", "main.js")


def page(sections: Sequence[Section], examples: Mapping[TableKey, Examples] | None = None) -> str:
    """The whole page.

    Args:
        sections: the boards.
        examples: example users of tables, as far as they are kept.
    """
    style = _part("page.css")
    script = "\n".join(['"use strict";', *map(_part, SCRIPTS)])
    parts = {
        "policy": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'",
        "style": style,
        "script": script,
        "findings": _findings(sections),
        "rule": in_html(RULE),
        "data": _json(page_data(sections, examples or {})),
    }
    return re.sub(r"@@(\w+)@@", lambda mark: parts[mark[1]], _part("page.html"))


def _findings(sections: Sequence[Section]) -> str:
    """The findings of the board that is shown first."""
    section = first_section(sections)
    if section is None:
        return "<p>No rows with numbers yet: <code>python -m bench run --suite paper</code> makes them.</p>"
    told = [f'<p class="about">Board {in_html(section.name)}: {in_html(summary(section))}</p>']
    if warning := warning_of(section.scale):
        told.append(f'<p class="about">Scale {in_html(section.scale)}: {in_html(warning)}.</p>')
    told.append('<ol class="findings">')
    told += [
        f"<li><strong>{in_html(one.head)}.</strong> {in_html(one.text)} "
        f"<code>{in_html(one.command)}</code></li>"
        for one in findings(section)
    ]
    return "\n".join([*told, "</ol>"])


def _json(value: Any) -> str:
    """JSON for a ``script`` element: no character of it ends or opens a tag, or ends a line of script."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _part(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8").strip()
