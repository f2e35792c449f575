"""Suites: grids of methods, losses, decoders, backbones, datasets and seeds, written in YAML.

``read`` validates the file, ``Scale`` says how large a run is, and ``bench.experiment.grid`` turns both
into cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.cell import PROTOCOL
from bench.config_words import faults, shown
from bench.errors import SuiteError, UnknownName
from bench.experiment.yaml_text import read_yaml
from bench.results.machine import usable_gpus

SUITES = Path(__file__).parent / "suites"
ScaleName = Literal["embedded", "laptop", "small", "full"]
Rows = Annotated[int, Field(gt=0)] | None
# the line-up of the paper's Table 5: what a suite may name before it is built
PAPER_METHODS = frozenset("sasrec bert4rec dros llm_cf dllm2rec bigrec llara a_llmrec".split())
PAPER_LOSSES = frozenset({"lml", "s_dpo", "msl_ats"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SuiteRow(_Strict):
    """One line of a suite: a method and the values its axes take.

    Attributes:
        method: registered name.
        losses, decoders, backbones: values of the axes; None for the method's default.
        config: values that differ from the method's defaults.
        tune: trials of a hyper-parameter search before the fit, 0 for none.
        train_rows: cap on the training rows instead of the scale's; "all" lifts it.
        scales: the scales at which the line is run; None for every one.
    """

    method: str
    losses: list[str] | None = None
    decoders: list[str] | None = None
    backbones: list[str] | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    tune: int = Field(default=0, ge=0)
    train_rows: Rows | Literal["all"] = None
    scales: list[ScaleName] | None = None


class Suite(_Strict):
    """A grid of cells.

    Attributes:
        datasets, seeds: a list, or a list by scale.
        train_rows, valid_rows, test_rows: caps instead of the scale's.
        gpus_per_cell: GPUs of each cell that can share its work among several, instead of the scale's; no
            more than there are.
    """

    title: str
    about: str = ""
    protocol: str = PROTOCOL
    datasets: list[str] | dict[ScaleName, list[str]]
    seeds: list[int] | dict[ScaleName, list[int]] = [0]
    rows: list[SuiteRow]
    train_rows: Rows = None
    valid_rows: Rows = None
    test_rows: Rows = None
    gpus_per_cell: Annotated[int, Field(gt=0)] | None = None

    def datasets_at(self, scale: str) -> list[str]:
        """Dataset names at a scale."""
        names = self.datasets
        return list(names if isinstance(names, list) else names.get(scale, []))  # type: ignore[call-overload]

    def rows_at(self, scale: str) -> list[SuiteRow]:
        """Lines at a scale."""
        return [row for row in self.rows if row.scales is None or scale in row.scales]

    def seeds_at(self, scale: str) -> list[int]:
        """Seeds at a scale."""
        seeds = self.seeds
        return list(seeds if isinstance(seeds, list) else seeds.get(scale, [0]))  # type: ignore[call-overload]


class Scale(_Strict):
    """How large a run is: caps on rows, the default backbone, configs cut to size, GPUs of a cell.

    Attributes:
        warning: what its numbers cannot say, told before a run; empty where they can be read as they are.
        config: by method, values that replace its defaults.
        recipes: by backbone, values of every method that writes answers with it; ``config`` goes before them.
    """

    about: str
    warning: str = ""
    backbone: str
    train_rows: dict[str, Rows]
    valid_rows: dict[str, Rows]
    test_rows: Rows = None
    gpus_per_cell: Annotated[int, Field(gt=0)] = 1
    config: dict[str, dict[str, Any]] = Field(default_factory=dict)
    recipes: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def values(self, row: SuiteRow, *, decodes: bool, backbone: str | None) -> dict[str, Any]:
        """What the scale sets for a line of a suite.

        Args:
            row: the line.
            decodes: whether its method writes answers with a language model.
            backbone: that model's name.
        """
        recipe = self.recipes.get(backbone, {}) if decodes and backbone else {}
        return {**recipe, **self.config.get(row.method, {})}


def suite_names() -> list[str]:
    """The suites that come with the package."""
    return sorted(p.stem for p in SUITES.glob("*.yaml") if not p.stem.startswith("_"))


def read(name: str) -> Suite:
    """A suite by name or by the path of a YAML file.

    Raises:
        UnknownName: neither a known suite nor a file.
        SuiteError: the file has faults; all of them are listed.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SUITES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(suite_names())
        raise UnknownName(f"no suite is called {name!r}. Known: {known}; or give a .yaml file")
    suite = _validated(path)
    if suite.protocol != PROTOCOL:
        raise SuiteError(f"{path}: protocol {suite.protocol!r}, but this is protocol {PROTOCOL!r}")
    return suite


@cache
def scales() -> dict[str, Scale]:
    """The scales by name, from the smallest to the largest."""
    raw = read_yaml(SUITES / "_scales.yaml")
    return {name: Scale(**value) for name, value in raw.items()}


def warning_of(scale: str) -> str:
    """What the numbers of a scale cannot say; empty where they can be read as they are, or it is unknown."""
    known = scales().get(scale)
    return known.warning if known else ""


def choose_scale(
    asked: str, gpus: Sequence[int] | None = None, suite: Suite | None = None
) -> tuple[str, str]:
    """The scale to run and, in a sentence, why.

    Args:
        asked: a scale, or ``auto``.
        gpus: see ``usable_gpus``.
        suite: what is run; without a GPU ``laptop`` is chosen only where it has datasets by that name.

    Raises:
        UnknownName: not a scale.
        ConfigError: a GPU that does not exist.
    """
    if asked in scales():
        return asked, "as asked"
    if asked != "auto":
        raise UnknownName(f"no scale is called {asked!r}. Known: auto, {', '.join(scales())}")
    gib = [memory for _, memory in usable_gpus(gpus)]
    if not gib:
        why = "no GPU was found" if gpus is None else "no GPU is to be used"
        sized = suite if suite is not None and isinstance(suite.datasets, dict) else None
        scale = "laptop" if sized and sized.datasets_at("laptop") else "embedded"
        return scale, f"{why}; --scale small or full overrides"
    if max(gib) >= 40:
        return "full", f"{len(gib)} GPU(s) with up to {max(gib):.0f} GiB were found"
    return "small", f"{len(gib)} GPU(s) with up to {max(gib):.0f} GiB were found; full needs 40"


def _validated(path: Path) -> Suite:
    raw = read_yaml(path)
    if not isinstance(raw, Mapping):
        raise SuiteError(f"{path}: a suite is a mapping with title, datasets and rows")
    try:
        return Suite.model_validate(raw)
    except ValidationError as fault:
        lines = _faults(fault, raw)
        raise SuiteError(f"{path} has {len(lines)} fault(s):\n  " + "\n  ".join(lines)) from fault


def _faults(fault: ValidationError, raw: Mapping[str, Any]) -> list[str]:
    """Every fault of a suite as a sentence; those of a row name its number."""
    errors = fault.errors()
    within = [error for error in errors if error["loc"][0] == "rows" and len(error["loc"]) > 1]
    lines = faults(Suite, [error for error in errors if error not in within], raw)
    for number in dict.fromkeys(error["loc"][1] for error in within):
        row = raw["rows"][number]
        if not isinstance(row, Mapping):
            lines.append(f"rows.{number} is {shown(row)}; it must be a mapping with a method")
            continue
        own = [error for error in within if error["loc"][1] == number]
        lines += [f"rows.{number}: {line}" for line in faults(SuiteRow, own, row, depth=2)]
    return lines
