"""Secrets taken out of texts before they are kept or shown: tokens by their form, and this environment's own.

A library may put the address that it asked, the header that it sent or a variable's value into its exception,
and rows, logs and tables are passed on.
"""

from __future__ import annotations

import os
import re

LEAST = 8  # characters; a shorter value of a variable would be found in innocent words
ENDINGS = ("TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS")  # of a variable's name
HIDDEN = "[secret]"
_FORMS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{8,}|api_org_[A-Za-z0-9]{8,}|[sr]k-[A-Za-z0-9_-]{8,}|gh[opsur]_[A-Za-z0-9]{16,}"
    r"|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{8,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,})"
)
_HEADER = re.compile(r"(?i)\b(bearer|basic|token)\s+(?=[\w.~+/=-]*\d)[\w.~+/=-]{16,}")
_LOGIN = re.compile(r"(?<=://)[^/\s@:]+:[^/\s@]+(?=@)")


def without_secrets(text: str) -> str:
    """The text with every token in it replaced.

    Taken for tokens are the forms of the usual services (``hf_...``, ``sk-...``), what follows ``Bearer``,
    the login of an address, and the value, if it has ``LEAST`` characters or more, of each variable of the
    environment whose name ends in one of ``ENDINGS``; the variable's name then stands for it.
    """
    for value, name in _own():
        text = text.replace(value, f"${name}")
    text = _FORMS.sub(HIDDEN, text)
    text = _HEADER.sub(rf"\1 {HIDDEN}", text)
    return _LOGIN.sub(HIDDEN, text)


def _own() -> list[tuple[str, str]]:
    """Secret values of this environment with their names; longest first, as one may hold another."""
    found = [
        (value, name)
        for name, value in os.environ.items()
        if name.upper().endswith(ENDINGS) and len(value) >= LEAST
    ]
    return sorted(found, key=lambda pair: -len(pair[0]))
