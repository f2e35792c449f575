"""Rows made fit to be stored: what a method or a library says of itself becomes plain, printable JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.cell import Row
from bench.errors import ContractError
from bench.results.row_schema import parse
from bench.results.row_values import BIGGEST, DEEPEST, LONGEST
from bench.text.plain import one_line, printable
from bench.text.secrets import without_secrets


def plain_row(row: Row) -> Row:
    """The row with its reason on one line, its facts as plain JSON, and no tokens of this machine."""
    reason = _level(one_line(without_secrets(row.reason), LONGEST))
    return replace(row, reason=reason, facts=plain_facts(row.facts))


def plain_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as JSON has them: numbers of numpy and torch as numbers, NaN and infinities as null.

    Anything that JSON does not know becomes its text, cut to one line.
    """
    return {_text(str(name)): _plain(value, DEEPEST - 1) for name, value in facts.items()}


def check_readable(row: Row) -> None:
    """Refuse a row that nobody could read.

    Raises:
        ContractError: names the field, its value and what is allowed.
    """
    try:
        parse(json.dumps(plain_row(row).as_dict()).encode())
    except ValueError as fault:
        raise ContractError(f"its row cannot be kept: {fault}") from fault


def _plain(value: Any, levels: int) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return _text(value) if isinstance(value, str) else value
    if type(value) in (int, float):
        return _number(value)
    if hasattr(value, "tolist"):  # arrays and scalars of numpy and torch
        value = value.tolist()
        return _plain(value, levels) if not hasattr(value, "tolist") else _text(str(value))
    if levels > 0 and isinstance(value, Mapping):
        return {_text(str(name)): _plain(part, levels - 1) for name, part in value.items()}
    if levels > 0 and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(part, levels - 1) for part in value]
    return _text(str(value))


def _number(value: float) -> Any:
    if isinstance(value, int):
        return (
            value
            if -BIGGEST <= value <= BIGGEST
            else _text(f"{value:.3e}" if abs(value) < 1e300 else "huge")
        )
    return value if math.isfinite(value) else None


def _text(text: str) -> str:
    return _level(printable(" ".join(without_secrets(text).split()))[:LONGEST])


def _level(text: str) -> str:
    """The text without ``../``: it may be shown where a path is read."""
    return text.replace("../", "…/").replace("..\\", "…\\")
