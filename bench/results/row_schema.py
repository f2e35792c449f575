"""What a row's JSON file may hold: every field's type, range and form; whatever else is in it is refused.

A row may be a stranger's. Its names become parts of paths and tables, its numbers are added up, so nothing of
it is taken on trust: names are words, numbers are finite, texts are printable, nests are shallow, and no text
climbs out of a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import PydanticCustomError
from typing_extensions import NotRequired, TypedDict

from bench.cell import Chooser, Status
from bench.results.row_values import BIGGEST, PRINTED, check_nest, is_printed, quoted
from bench.text.plain import printable

HUGE = 1e18  # no count, no cost and no duration is larger
NAME = r"^\w+(?:(?:\.|[+~-]+)\w+)*$"
ROLE, KEY, METRIC = r"^\w[\w. -]*$", r"^[\w-]+$", r"^\w+@[0-9]{1,3}$"
VERSION, DIGEST, DATE, DEVICE = r"^[\w.+-]*$", r"^[\w-]*$", r"^[0-9TZ:.+-]*$", r"^[\w:.-]+$"
WORDS = {
    NAME: "a name of letters, digits, _ and single . + ~ - inside",
    ROLE: "a role such as method or config.teacher",
    KEY: "the key of a cell, 16 hex digits",
    METRIC: "a metric with its cutoff, e.g. ndcg@10",
    VERSION: "a version or a hash",
    DIGEST: "a hash, hex digits",
    DATE: "a time in UTC, e.g. 2025-01-31T07:00:00Z",
    DEVICE: "a device, e.g. cpu",
}


def _printed(text: str) -> str:
    if not is_printed(text):
        raise PydanticCustomError("text", cast("Any", f"one line of {PRINTED}"))
    return text


def _number(value: Any) -> Any:
    """Null or a number, which stays whole if it is."""
    if value is None or (type(value) in (int, float) and -HUGE <= value <= HUGE):
        return value
    raise PydanticCustomError("number", cast("Any", f"a number up to {HUGE:g}, or null"))


Name = Annotated[str, Field(pattern=NAME, max_length=64)]
Role = Annotated[str, Field(pattern=ROLE, max_length=200)]
Key = Annotated[str, Field(pattern=KEY, max_length=64)]
Version = Annotated[str, Field(pattern=VERSION, max_length=64)]
Digest = Annotated[str, Field(pattern=DIGEST, max_length=128)]
Metric = Annotated[str, Field(pattern=METRIC, max_length=64)]
Date = Annotated[str, Field(pattern=DATE, max_length=40)]
Device = Annotated[str, Field(pattern=DEVICE, max_length=64)]
Text = Annotated[str, AfterValidator(_printed)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Cap = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Cost = Annotated[float, Field(ge=0, le=HUGE, allow_inf_nan=False)]
Number = Annotated[Any, AfterValidator(_number)]
STRICT = ConfigDict(strict=True, extra="forbid")


@with_config(STRICT)
class _Cell(TypedDict):
    """Fields of ``bench.cell.Cell``."""

    dataset: Name
    data_version: Version
    method: Name
    loss: NotRequired[Name | None]
    decoder: NotRequired[Name | None]
    backbone: NotRequired[Text | None]
    seed: NotRequired[Annotated[int, Field(ge=-BIGGEST, le=BIGGEST)]]
    scale: NotRequired[Name]
    profile: NotRequired[Name]
    train_rows: NotRequired[Cap | None]
    valid_rows: NotRequired[Cap | None]
    test_rows: NotRequired[Cap | None]
    select_on: NotRequired[Chooser]
    uncut: NotRequired[bool]
    config: NotRequired[dict[str, Any]]
    tune: NotRequired[Count]
    versions: NotRequired[dict[Role, Count]]
    contents: NotRequired[dict[Role, Digest]]
    needs: NotRequired[dict[Role, Key]]
    protocol: NotRequired[Name]


@with_config(STRICT)
class _Bill(TypedDict, total=False):
    """What one phase cost; see ``bench.execution.meter``."""

    seconds: Cost | None
    cpu_seconds: Cost | None
    peak_host_bytes: Cost | None
    peak_gpu_bytes: Cost | None
    joules: Cost | None
    users_per_second: Cost | None


@with_config(ConfigDict(strict=True, extra="allow"))
class _Facts(TypedDict, total=False):
    """The facts that tables and badges read; a method may have others beside them."""

    family: Literal["floor", "traditional", "enhanced", "llm", "stage", "unknown"]
    title: Text | None
    variant: Text | None
    selected_on: Literal["valid", "test"]
    tuned: dict[str, Any] | None
    upstream: dict[Key, Number]
    upstream_seconds: Number
    parameters_total: Number
    parameters_trained: Number
    epochs: Number
    failed_queries: Number
    certified_share: Number
    beam_regret: Number
    audited: Number
    ats_clamped: Number
    ats_updates: Number
    first_loss: Number
    first_loss_off: Number
    layouts: Text
    layouts_difference: Number
    history_dropped: Number
    queries_history_dropped: Number
    prompts_too_long: Number
    teacher_rows: Number
    teacher_rows_share: Number
    entries: Number


@with_config(STRICT)
class _Size(TypedDict):
    """Fields of ``bench.cell.Size`` that are numbers."""

    train_rows: Count
    test_rows: Count
    n_items: Count
    valid_rows: NotRequired[Count]
    characters: NotRequired[Cost]


@with_config(STRICT)
class _Provenance(TypedDict, total=False):
    """Where a row comes from; see ``bench.results.provenance``."""

    date: Date
    commit: Version
    dirty: bool
    code: Digest
    python: Version
    versions: dict[Name, Version] | None
    machine: Text
    threads: Count
    ranks: Count
    device: Device
    positions: Digest
    wall_seconds: Cost
    predicted_seconds: Annotated[list[Cost], Field(min_length=3, max_length=3)]
    disk_bytes: Cost
    size: _Size


@with_config(STRICT)
class _Row(TypedDict):
    """Fields of ``bench.cell.Row``, with the key and the label beside them."""

    cell: _Cell
    status: Status
    key: NotRequired[Key]
    label: NotRequired[Text]
    sha256: NotRequired[Digest]
    reason: NotRequired[Text]
    n: NotRequired[Count]
    valid: NotRequired[dict[Metric, Share]]
    cost: NotRequired[dict[Literal["fit", "recommend", "validate"], _Bill]]
    facts: NotRequired[_Facts]
    provenance: NotRequired[_Provenance]


_ROW: TypeAdapter[Any] = TypeAdapter(_Row)
_CELL: TypeAdapter[Any] = TypeAdapter(_Cell)


def parse(content: bytes) -> dict[str, Any]:
    """The fields of a row from the bytes of its file.

    Raises:
        ValueError: the first field at fault, its value, and what is allowed there.
    """
    try:
        row: dict[str, Any] = _ROW.validate_json(content)
    except ValidationError as fault:
        raise ValueError(_sentence(fault)) from None
    _check_config("cell.config", row["cell"].get("config", {}))
    check_nest("facts", row.get("facts", {}))
    _check_together(row)
    return row


def check_cell(cell: Mapping[str, Any]) -> None:
    """Refuse a cell whose row nobody could read.

    Args:
        cell: its fields.

    Raises:
        ValueError: as ``parse``.
    """
    try:
        _CELL.validate_python(dict(cell))
    except ValidationError as fault:
        raise ValueError(_sentence(fault)) from None
    _check_config("config", cell.get("config") or {})


def _sentence(fault: ValidationError) -> str:
    """The first fault of a row in words."""
    first = fault.errors(include_url=False)[0]
    kind, context, field = first["type"], first.get("ctx", {}), ".".join(map(_part, first["loc"]))
    if kind == "json_invalid":
        return f"no JSON ({context['error']})"
    if kind == "missing":
        return f"{field} is missing"
    if kind == "extra_forbidden":
        return f"{field} is no field of a row"
    allowed = first["msg"].removeprefix("Input should be ").replace("valid dictionary", "mapping")
    if kind == "string_pattern_mismatch":
        allowed = WORDS[context["pattern"]]
    return f"{field or 'it'} is {quoted(first['input'])}; allowed: {allowed}"


def _part(name: Any) -> str:
    """A part of a field's place as messages show it; pydantic marks a mapping's own key."""
    return "the key" if name == "[key]" else printable(str(name)).replace("\n", r"\n")[:60]


def _check_together(row: Mapping[str, Any]) -> None:
    """Refuse facts without those that are read with them."""
    facts = row.get("facts", {})
    for name, other in (("beam_regret", "audited"), ("teacher_rows_share", "teacher_rows")):
        if facts.get(name) is not None and facts.get(other) is None:
            raise ValueError(f"facts.{other} is missing, which belongs to facts.{name}")


def _check_config(place: str, config: Mapping[str, Any]) -> None:
    """Refuse a configuration whose values are no values; a label shows its ``method``, if it has one."""
    check_nest(place, config)
    if not isinstance(config.get("method", ""), str):
        raise ValueError(f"{place}.method is {quoted(config['method'])}; allowed: a name")
