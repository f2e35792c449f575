"""How a verb is registered."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """The parser of a verb, which takes no option by the beginning of its name alone."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **kwargs})


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


def refuse(parser: argparse.ArgumentParser, words: Sequence[str]) -> NoReturn:
    """End with what a verb does not understand and the option that comes nearest.

    Args:
        parser: of the verb.
        words: what is left of the command.
    """
    from bench.registry import alike  # only a mistake waits for it

    name = words[0].partition("=")[0]
    known = [known for known in parser._option_string_actions if known.startswith("--")]
    longer = [option for option in known if name.startswith("--") and option.startswith(name)]
    found = longer or alike(name, known)
    hint = f". Did you mean {' or '.join(found[:3])}?" if found else "; --help lists the options"
    parser.error(f"it does not know {name!r}{hint}")
