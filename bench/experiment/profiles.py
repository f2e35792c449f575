"""Profiles: named sets of configuration values, each with the source it was taken from.

The table is ``profiles.yaml``. It is applied when a suite is expanded, before a cell has its key; methods
never ask for a profile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.cell import Cell, Chooser
from bench.errors import UnknownName
from bench.experiment.yaml_text import read_yaml
from bench.registry import Registry, decoders, losses, near

TABLE = Path(__file__).with_name("profiles.yaml")
OPTIONS = {
    "loss": "loss_options",
    "decoder": "decoder_options",
}  # fields that hold them in a method
PAPER = "paper_faithful"
ABSENT = object()
Names = str | Sequence[str] | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Setting(_Strict):
    """One value of a profile.

    Attributes:
        method, loss, decoder: to which it applies; None for all.
        of: whose configuration it is in: ``decoder``, ``loss`` or ``method``; by default the first of these
            that is named.
        key: name of the value; dots reach into nested configurations.
        value: the value.
        source: paper section, or the file of the released code.
    """

    method: Names = None
    loss: Names = None
    decoder: Names = None
    of: Literal["method", "loss", "decoder", "axis"] | None = None
    key: str
    value: Any
    source: str

    @property
    def owner(self) -> str:
        """``method``, ``loss``, ``decoder`` or ``axis``."""
        if self.of is not None:
            return self.of
        return "decoder" if self.decoder else "loss" if self.loss else "method"

    def holds(self, method: str, loss: str | None, decoder: str | None) -> bool:
        """Whether the setting applies to a method with this loss and decoder.

        Args:
            method: registered name.
            loss: its loss, if any.
            decoder: its decoder, if any.
        """
        asked = ((self.method, method), (self.loss, loss), (self.decoder, decoder))
        return all(
            names is None or name in ((names,) if isinstance(names, str) else names)
            for names, name in asked
        )


class Profile(_Strict):
    """A named protocol.

    Attributes:
        about: one line for ``--help`` and the tables.
        base: the profile whose values it starts with.
        select_on: the exam that chooses the epoch.
        select_on_source: where that is from.
        uncut: whether the training rows stay whole, validation cut out of none.
        valid_rows: cap on the rows that choose the epoch: ``scale`` for the scale's, None for all.
        values: what it sets.
    """

    about: str
    base: str | None = None
    select_on: Chooser = "valid"
    select_on_source: str = ""
    uncut: bool = False
    valid_rows: Literal["scale"] | int | None = "scale"
    values: tuple[Setting, ...] = Field(default=())


@cache
def profiles() -> Mapping[str, Profile]:
    """Every profile by name, with the values of its base."""
    found: dict[str, Profile] = {}
    for name, given in read_yaml(TABLE).items():
        own = Profile(**given)
        if own.base is not None:
            base = found[own.base]
            inherited = base.model_dump(exclude={"values", "about"}) | {
                key: getattr(own, key) for key in own.model_fields_set - {"values", "base"}
            }
            own = Profile(**inherited | {"about": own.about, "base": own.base}).model_copy(
                update={"values": (*base.values, *own.values)}
            )
        found[name] = own
    return found


def profile(name: str) -> Profile:
    """A profile by name.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in profiles():
        raise UnknownName(f"no profile is called {name!r}.{near(name, profiles())}")
    return profiles()[name]


def settings(name: str, method: str, loss: str | None, decoder: str | None) -> Iterator[Setting]:
    """What a profile sets for a method with its loss and decoder; later lines replace earlier ones.

    Args:
        name: of the profile.
        method: registered name.
        loss: its loss, if any.
        decoder: its decoder, if any.
    """
    kept: dict[tuple[str, str], Setting] = {}
    for setting in profile(name).values:
        if setting.holds(method, loss, decoder):
            kept[setting.owner, setting.key] = setting
    yield from kept.values()


def decoders_of(name: str, method: str) -> Callable[[str | None], list[str] | None]:
    """A function from a loss to the decoders that a profile gives a row without decoders, or to None.

    Args:
        name: of the profile.
        method: registered name.
    """

    def of(loss: str | None) -> list[str] | None:
        found = [s.value for s in settings(name, method, loss, None) if s.owner == "axis"]
        return list(found[-1]) if found else None

    return of


def with_profile(
    name: str,
    values: Mapping[str, Any],
    *,
    method: str,
    loss: str | None,
    decoder: str | None,
    fields: frozenset[str],
) -> dict[str, Any]:
    """A row's configuration values, completed by those of the profile.

    Args:
        name: the profile.
        values: given by hand or by the scale; they stay.
        method: the row's method.
        loss: its loss.
        decoder: its decoder.
        fields: the keys that the method's configuration has.
    """
    beneath: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {"loss": {}, "decoder": {}}
    for setting in settings(name, method, loss, decoder):
        if setting.owner == "method":
            beneath = merged(beneath, _nested(setting.key, setting.value))
        elif setting.owner in options and OPTIONS[setting.owner] in fields:
            options[setting.owner][setting.key] = setting.value
    whole = merged(beneath, values)
    for kind, found in options.items():
        if found:
            registry, axis = (losses, loss) if kind == "loss" else (decoders, decoder)
            given = own_options(values.get(OPTIONS[kind], {}), axis, registry)
            if isinstance(given, Mapping):  # anything else is refused where it is read
                whole[OPTIONS[kind]] = {**found, **given}
    return whole


def own_options(options: Mapping[str, Any], name: str | None, known: Registry[Any]) -> Any:
    """The options of one loss or decoder from a configuration that may hold those of several by name.

    What is not under a name of its own is meant for every one of them.

    Args:
        options: as configured.
        name: of the loss or decoder.
        known: the registry it is in.
    """
    if not any(key in known for key in options):
        return options
    shared = {key: value for key, value in options.items() if key not in known}
    own = options.get(name or "", {})
    return {**shared, **own} if isinstance(own, Mapping) else own


def merged(beneath: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one.

    Args:
        beneath: values that are kept where the other has none.
        above: values that replace them.
    """
    whole = dict(beneath)
    for key, value in above.items():
        inner = whole.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            value = merged(inner, value)
        whole[key] = value
    return whole


def departures(cell: Cell, name: str = PAPER) -> tuple[str, ...]:
    """Where a cell's values differ from a profile's, one phrase each: ``epochs 5, not 10``.

    Args:
        cell: the cell.
        name: of the profile.
    """
    wanted = profile(name)
    found = []
    if cell.select_on != wanted.select_on:
        found.append(f"epoch chosen on {cell.select_on}, not {wanted.select_on}")
    for setting in settings(name, cell.method, cell.loss, cell.decoder):
        if setting.owner == "axis":
            continue
        home = (
            cell.config.get(OPTIONS[setting.owner], {}) if setting.owner in OPTIONS else cell.config
        )
        value = _look(home, setting.key)
        if value is not ABSENT and value != setting.value:
            found.append(f"{setting.key} {_said(value)}, not {_said(setting.value)}")
    return tuple(found)


def _nested(key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _look(values: Any, key: str) -> Any:
    first, _, rest = key.partition(".")
    if not isinstance(values, Mapping) or first not in values:
        return ABSENT
    return _look(values[first], rest) if rest else values[first]


def _said(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
