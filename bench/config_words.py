"""What a field of a configuration takes, and what is wrong with a value, in words."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bench.registry import near

PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
BOUNDS = {
    Gt: ("gt", "above"),
    Ge: ("ge", "at least"),
    Lt: ("lt", "below"),
    Le: ("le", "at most"),
    MultipleOf: ("multiple_of", "a multiple of"),
}


def faults(
    kind: type[BaseModel],
    errors: Iterable[ErrorDetails],
    values: Mapping[str, Any],
    *,
    depth: int = 0,
) -> list[str]:
    """Everything that is wrong with some values, one sentence a key.

    Args:
        kind: the class that refused them.
        errors: what pydantic found.
        values: what it was given.
        depth: where in an error's location its key stands.
    """
    found: dict[Any, str] = {}
    for error in errors:
        if len(error["loc"]) <= depth:
            found[None] = str(error.get("ctx", {}).get("error", error["msg"]))
            continue
        key = error["loc"][depth]
        if key in kind.model_fields and key in values:
            found[key] = _refusal(str(key), kind.model_fields[str(key)], values[str(key)])
        elif key in kind.model_fields:
            found[key] = f"{key} is missing; allowed: {allowed(kind.model_fields[str(key)])}"
        else:
            found[key] = f"there is no key {str(key)!r}.{near(str(key), kind.model_fields)}"
    return list(found.values())


def shown(value: Any) -> str:
    """A value as one would write it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(part)}" for key, part in value.items()) + "}"
    return repr(value)


def allowed(field: FieldInfo) -> str:
    """What a field takes, in words."""
    return _join(words(field.annotation, field.metadata))


def _refusal(key: str, field: FieldInfo, value: Any) -> str:
    said = f"{key} is {shown(value)}; allowed: {allowed(field)}"
    return (
        said
        if field.is_required()
        else f"{said}; default {shown(field.get_default(call_default_factory=True))}"
    )


def _join(words: Sequence[tuple[str, str]]) -> str:
    """Kinds of values and their ranges as one phrase."""
    return " or ".join(
        f"{name} {limit}" if name == "one of" else ", ".join(filter(None, (name, limit)))
        for name, limit in words
    )


def words(annotation: Any, metadata: Sequence[Any] = ()) -> list[tuple[str, str]]:
    """The kinds of value that a type allows, each with its range, in words.

    Args:
        annotation: the type of a field.
        metadata: bounds that pydantic keeps beside the type.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return words(inner[0], inner[1:])
    if origin in {Union, types.UnionType}:
        return [kind for part in inner for kind in words(part)]
    if origin is Literal:
        return [("one of" if len(inner) > 1 else "", ", ".join(map(str, inner)))]
    if origin is tuple:
        each = _join(words(inner[0]))
        size = "" if inner[-1] is Ellipsis else f" of {len(inner)}"
        return [(f"a list{size}, each {each}", "")]
    if annotation in {None, types.NoneType}:
        return [("null", "")]
    bounds = [
        f"{word} {getattr(bound, name)}"
        for bound in _flat(metadata)
        for kind, (name, word) in BOUNDS.items()
        if isinstance(bound, kind)
    ]
    return [(_noun(annotation), " and ".join(bounds))]


def _noun(annotation: Any) -> str:
    if annotation in PLAIN:
        return PLAIN[annotation]
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and issubclass(kind, (Mapping, BaseModel)):
        return "a mapping"
    return "a list" if isinstance(kind, type) and issubclass(kind, Sequence) else "a value"


def _flat(metadata: Sequence[Any]) -> list[Any]:
    """Bounds as single conditions; pydantic's ``Field`` and annotated types group them."""
    found: list[Any] = []
    for bound in metadata:
        found += bound.metadata if isinstance(bound, FieldInfo) else [bound]
    return found
