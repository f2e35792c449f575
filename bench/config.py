"""Configurations of methods, losses and decoders: one base class, and one way from a mapping to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typing_extensions import Self

from bench.config_words import faults, shown, words
from bench.errors import ConfigError

C = TypeVar("C", bound="Config")
ABSENT = "absent"  # where a field keeps the value it had before it existed


class Config(BaseModel):
    """Base class of configurations; each field has a type, a default, a range and a sentence below it.

    Values are taken as they are: ``2.5`` or ``true`` is no whole number and ``"3"`` is text; a whole
    number may stand for a number, and a list for a tuple.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, given: Any) -> Any:
        """YAML and JSON have lists where fields are tuples, and mappings where they are configurations."""
        if not isinstance(given, Mapping):
            return given
        return {key: _as_field(cls.model_fields.get(key), value) for key, value in given.items()}

    def replace(self, **changes: Any) -> Self:
        """The same with other values for some fields, checked like any other.

        Raises:
            ConfigError: an unknown field or a value that is not allowed.
        """
        return configure(type(self), {**vars(self), **changes}, owner=type(self).__name__)

    def as_dict(self) -> dict[str, Any]:
        """Every value, ready for JSON: tuples as lists, configurations inside as mappings."""
        return {key: _plain(value) for key, value in vars(self).items()}

    def declared(self) -> dict[str, Any]:
        """The values that identify a result: all but those of ``later`` fields that change nothing."""
        absent = _absent(type(self))
        return {
            key: value.declared() if isinstance(value, Config) else _plain(value)
            for key, value in vars(self).items()
            if key not in absent or value != absent[key]
        }


class Empty(Config):
    """A configuration without fields."""


def later(*, default: Any, absent: Any = PydanticUndefined, **bounds: Any) -> Any:
    """A field that was added after results were recorded without it.

    Args:
        default: the value where a user gives none.
        absent: the value that stands for the time before the field existed; the default if not given.
        bounds: further arguments of pydantic's ``Field``.
    """
    before = default if absent is PydanticUndefined else absent
    return Field(default=default, json_schema_extra={ABSENT: before}, **bounds)


def configure(
    kind: type[C], given: Mapping[str, Any] | Config | None, *, owner: str, stored: bool = False
) -> C:
    """A checked configuration; what is given overrides the defaults.

    Args:
        kind: the class of the configuration.
        given: values by key, a finished instance, or None for the defaults.
        owner: the name of the method, loss or decoder, for messages.
        stored: whether ``given`` was written by ``declared``, so that a ``later`` field that it lacks
            has the value from before it existed.

    Raises:
        ConfigError: an unknown key or a value that is not allowed; one line names every one of them,
            what is allowed and the default.
    """
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(
            f"{owner}: its configuration is {shown(given)}; it must be a mapping of keys to values"
        )
    values = _with_absent(kind, given or {}) if stored else dict(given or {})
    try:
        return kind.model_validate(values)
    except ValidationError as fault:
        raise ConfigError(f"{owner}: {'; '.join(faults(kind, fault.errors(), values))}") from fault


def require_config(owner: type) -> None:
    """Refuse a method, loss or decoder whose ``Config`` is not a configuration.

    Raises:
        ConfigError: with what to write instead.
    """
    kind = getattr(owner, "Config", None)
    if not (isinstance(kind, type) and issubclass(kind, Config)):
        named = kind.__name__ if isinstance(kind, type) else repr(kind)
        raise ConfigError(
            f"{owner.__name__}: its Config is {named}, which is no subclass of bench.config.Config; write "
            f"`class {owner.__name__}Config(Config):` with a type and a default for every field"
        )


class Option(NamedTuple):
    """One field in words: its key, what kind of value it takes, default, range and sentence."""

    key: str
    type: str
    default: Any
    range: str
    sentence: str


def options(kind: type[Config]) -> list[Option]:
    """The fields of a configuration in words, for ``--help`` and tables."""
    found = []
    for key, field in kind.model_fields.items():
        kinds = words(field.annotation, field.metadata)
        of_type = " or ".join(dict.fromkeys(name for name, _ in kinds if name))
        limits = ", ".join(limit for _, limit in kinds if limit)
        found.append(Option(key, of_type, _default(field), limits, field.description or ""))
    return found


def _default(field: FieldInfo) -> Any:
    return _plain(field.get_default(call_default_factory=True))


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def _absent(kind: type[Config]) -> dict[str, Any]:
    extra = {key: field.json_schema_extra for key, field in kind.model_fields.items()}
    return {k: v[ABSENT] for k, v in extra.items() if isinstance(v, dict) and ABSENT in v}


def _as_field(field: FieldInfo | None, value: Any) -> Any:
    if field is None:
        return value
    inner = _inner(field)
    if inner is not None and isinstance(value, Mapping):
        return inner.model_validate(value)
    parts = (field.annotation, *get_args(field.annotation))
    if isinstance(value, list) and any(get_origin(part) is tuple for part in parts):
        return tuple(value)
    return value


def _inner(field: FieldInfo) -> type[Config] | None:
    """The class of a field that is a configuration itself."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Config) else None


def _with_absent(kind: type[Config], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored values with those of ``later`` fields they do not name, also inside."""
    fields = {key: kind.model_fields[key] for key in stored if key in kind.model_fields}
    inside = {key: _inner(field) for key, field in fields.items()}
    whole = {key: _with_absent(part, stored[key]) for key, part in inside.items() if part}
    return {**_absent(kind), **stored, **whole}
