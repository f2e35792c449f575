"""Values of any kind inside a row, as configurations and facts hold them: printable, finite and shallow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bench.text.plain import printable

LONGEST = 20_000  # characters of a text
DEEPEST, MOST = 8, 20_000  # levels and values of a configuration or of the facts
BIGGEST = 2**63 - 1
_CLIMB = re.compile(r"(?:^|[/\\])\s*\.\.\s*(?:[/\\]|$)")
PRINTED = f"printable text of at most {LONGEST:,} characters, without ../"


def is_printed(text: str, *, breaks: bool = False) -> bool:
    """Whether a text is short enough, has no control character and climbs out of no folder.

    Args:
        text: the text.
        breaks: whether it may have line breaks and tabs.
    """
    if len(text) > LONGEST or (".." in text and _CLIMB.search(text)):
        return False
    if text.isprintable():
        return True
    plain = text.replace("\n", "").replace("\t", "") if breaks else text
    return "\n" not in plain and printable(plain) == plain


def check_nest(name: str, nest: Any) -> None:
    """Refuse what a configuration or facts may not hold.

    Args:
        name: of the nest, for the message.
        nest: mappings, lists and plain values.

    Raises:
        ValueError: the first value at fault, and what is allowed.
    """
    if not _is_sound(nest, DEEPEST):  # rare, so that only then every place gets its name
        _explain(name, nest)


def _is_sound(nest: Any, levels: int) -> bool:
    """Whether nothing in a small nest can be at fault; False where it takes a closer look."""
    values, keys = nest, ""
    if type(nest) is dict:
        values, keys = nest.values(), " ".join(map(str, nest))
    if levels < 0 or len(nest) > MOST // 10 or not keys.isprintable() or ".." in keys:
        return False
    for value in values:
        kind = type(value)
        if kind is float:
            sound = value - value == 0.0  # not for inf and nan
        elif kind is str:
            sound = value.isprintable() and ".." not in value and len(value) <= LONGEST
        elif kind is int:
            sound = -BIGGEST <= value <= BIGGEST
        elif kind is dict or kind is list:
            sound = _is_sound(value, levels - 1)
        else:
            sound = value is None or kind is bool
        if not sound:
            return False
    return True


def _explain(name: str, nest: Any) -> None:
    left = MOST
    todo: list[tuple[str, Any, int]] = [(name, nest, 0)]
    while todo:
        place, value, depth = todo.pop()
        left -= 1
        if depth > DEEPEST or left < 0:
            allowed = f"{DEEPEST} levels, {MOST:,} values"
            raise ValueError(f"{place[:200]} is nested too deeply or too long; allowed: {allowed}")
        if isinstance(value, (dict, list, tuple)):
            todo += _inside(place, value, depth + 1)
        elif why := _refused(value):
            raise ValueError(f"{place[:200]} is {quoted(value)}; allowed: {why}")


def _inside(place: str, nest: Any, depth: int) -> Iterator[tuple[str, Any, int]]:
    if not isinstance(nest, dict):
        yield from ((f"{place}.{i}", value, depth) for i, value in enumerate(nest))
        return
    for key, value in nest.items():
        if not isinstance(key, str) or len(key) > 200 or not is_printed(key):
            raise ValueError(f"{place[:200]} has the key {quoted(key)}; allowed: {PRINTED}")
        yield f"{place}.{key}", value, depth


def _refused(value: Any) -> str:
    """What is allowed instead of a plain value; empty if it is allowed itself."""
    kind = type(value)
    if kind is str:
        return "" if is_printed(value, breaks=True) else PRINTED
    if kind is float:
        return "" if value - value == 0.0 else "a finite number"
    if kind is int:
        return "" if -BIGGEST <= value <= BIGGEST else "a whole number of at most 63 bits"
    return "" if value is None or kind is bool else "text, numbers, true, false, null"


def quoted(value: Any) -> str:
    """A value as messages show it: escaped, and short whatever its size."""
    if isinstance(value, str):
        return repr(value[:60]) + ("..." if len(value) > 60 else "")
    if isinstance(value, int) and abs(value) > BIGGEST:
        return "a whole number of more than 63 bits"
    if isinstance(value, (dict, list, tuple)):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    return repr(value)[:60]
