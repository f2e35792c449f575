"""Text of others, made harmless for a terminal and for each form of table.

A name or a reason may come from a stranger's row, a title from anybody's catalogue. What is printed or
written to a table passes here once, so that no terminal obeys it, no spreadsheet computes it, and no reader's
browser makes a link of it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from typing import Literal

Form = Literal["md", "csv", "tex", "html"]
FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # what spreadsheets take for one
# the dot of example.com; not that of 2.5 or of a file whose ending is no domain
_DOMAIN = re.compile(r"(?<=[^\W_])\.(?=[^\W\d_]{2})(?!(?:csv|json|npz|tex|txt|yaml)\b)")
_ADDRESS = re.compile(r"@(?=[\w-]+(?:\.|&#46;)\w)")
_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "—": "---",
    **{c: "\\" + c for c in "{}$&#_%"},
}


def printable(text: str) -> str:
    r"""The text with each character that is obeyed rather than shown as an escape, ``\x1b``.

    Those are control characters, marks that turn the direction of text, and half surrogate pairs. Line breaks
    stay; a space of another width becomes a plain one.
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character == "\n" or character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode("ascii")


def one_line(text: str, most: int = 400) -> str:
    """The text on one line, printable, cut where it is longer than ``most`` characters."""
    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def neutral(text: str, form: Form) -> str:
    """The text as a table of this form shows it, without any effect of its own.

    Args:
        text: untrusted.
        form: Markdown, CSV, LaTeX or HTML.
    """
    return _FORMS[form](printable(" ".join(text.split())))


def in_html(text: str) -> str:
    """``neutral`` for HTML, as text or as the value of an attribute in quotes."""
    return neutral(text, "html")


def _markdown(flat: str) -> str:
    """Neither HTML nor links: entities stop a reader's linking of ``www.`` and ``://``, a comment ``@``."""
    safe = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(flat, quote=False))
    safe = _DOMAIN.sub("&#46;", safe.replace("://", ":&#47;/"))
    return _ADDRESS.sub("<!-- -->@", safe)


def _csv(flat: str) -> str:
    """With an apostrophe before what a spreadsheet would compute; plain numbers stay numbers."""
    if not flat.startswith(FORMULA):
        return flat
    try:
        float(flat)
    except ValueError:
        return f"'{flat}"
    return flat


def _latex(flat: str) -> str:
    safe = "".join(_TEX.get(c, c) for c in flat)
    # after the end of a line of a table LaTeX takes [ and * for options of it
    return f"{{{safe[0]}}}{safe[1:]}" if safe.startswith(("[", "*")) else safe


_FORMS: dict[Form, Callable[[str], str]] = {
    "md": _markdown,
    "csv": _csv,
    "tex": _latex,
    "html": html.escape,
}
