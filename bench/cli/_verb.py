"""How a verb is registered."""

from __future__ import annotations

import argparse
from typing import Any


def add_verb(
    subparsers: Any, name: str, line: str, about: str | None = None
) -> argparse.ArgumentParser:
    """A verb with a text that ``--help`` prints as it stands.

    Args:
        subparsers: where it is added.
        name: what is typed.
        line: what it does, for the list of verbs.
        about: the whole text; None for the line alone.
    """
    shape = argparse.RawDescriptionHelpFormatter
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=line, description=about or line, formatter_class=shape
    )
    return parser
