"""A suite is data: a grid of methods, losses, decoders, backbones, datasets and seeds in YAML.

``read`` validates the file, ``Scale`` says how large a run is, and ``bench.experiment.grid`` turns both
into cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from bench.cell import PROTOCOL
from bench.errors import SuiteError, UnknownName
from bench.registry import near
from bench.results.machine import usable_gpus

SUITES = Path(__file__).parent / "suites"
ScaleName = Literal["embedded", "small", "full"]
Rows = Annotated[int, Field(gt=0)] | None
# the line-up of the paper's Table 5: what a suite may name before it is built
PAPER_METHODS = frozenset("sasrec bert4rec dros llm_cf dllm2rec bigrec llara a_llmrec".split())
PAPER_LOSSES = frozenset({"lml", "s_dpo", "msl_ats"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SuiteRow(_Strict):
    """One line of a suite: a method and the values its axes take.

    Attributes:
        method: registered name.
        losses, decoders, backbones: values of the axes; None for the method's default.
        config: values that differ from the method's defaults.
        tune: trials of a hyper-parameter search before the fit, 0 for none.
        train_rows: cap on the training rows instead of the scale's; "all" lifts it.
    """

    method: str
    losses: list[str] | None = None
    decoders: list[str] | None = None
    backbones: list[str] | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    tune: int = Field(default=0, ge=0)
    train_rows: Rows | Literal["all"] = None


class Suite(_Strict):
    """A grid of cells.

    Attributes:
        datasets, seeds: a list, or a list by scale.
        train_rows, valid_rows, test_rows: caps instead of the scale's.
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

    def datasets_at(self, scale: str) -> list[str]:
        """Dataset names at a scale."""
        names = self.datasets
        return list(names if isinstance(names, list) else names.get(scale, []))  # type: ignore[call-overload]

    def seeds_at(self, scale: str) -> list[int]:
        """Seeds at a scale."""
        seeds = self.seeds
        return list(seeds if isinstance(seeds, list) else seeds.get(scale, [0]))  # type: ignore[call-overload]


class Scale(_Strict):
    """How large a run is: caps on rows, the default backbone, and configs cut to size."""

    about: str
    backbone: str
    train_rows: dict[str, Rows]
    valid_rows: dict[str, Rows]
    test_rows: Rows = None
    config: dict[str, dict[str, Any]] = Field(default_factory=dict)


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
    suite = _validated(Suite, path)
    if suite.protocol != PROTOCOL:
        raise SuiteError(f"{path}: protocol {suite.protocol!r}, but this is protocol {PROTOCOL!r}")
    return suite


@cache
def scales() -> dict[str, Scale]:
    """The three scales by name."""
    raw = yaml.safe_load((SUITES / "_scales.yaml").read_text(encoding="utf-8"))
    return {name: Scale(**value) for name, value in raw.items()}


def choose_scale(asked: str, gpus: Sequence[int] | None = None) -> tuple[str, str]:
    """The scale to run and, in a sentence, why.

    Args:
        asked: a scale, or ``auto``.
        gpus: see ``usable_gpus``.

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
        return "embedded", f"{why}; --scale small or full overrides"
    if max(gib) >= 40:
        return "full", f"{len(gib)} GPU(s) with up to {max(gib):.0f} GiB were found"
    return "small", f"{len(gib)} GPU(s) with up to {max(gib):.0f} GiB were found; full needs 40"


def _validated(model: type[Suite], path: Path) -> Suite:
    try:
        return model(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as fault:
        raise SuiteError(f"{path} cannot be read as UTF-8 text: {fault}") from fault
    except yaml.YAMLError as fault:
        raise SuiteError(f"{path}: not YAML: {fault}") from fault
    except TypeError as fault:
        raise SuiteError(f"{path}: a suite is a mapping with title, datasets and rows") from fault
    except ValidationError as fault:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {_said(e)}" for e in fault.errors()]
        raise SuiteError(f"{path} has {len(lines)} fault(s):\n" + "\n".join(lines)) from fault


def _said(error: ErrorDetails) -> str:
    """One fault of a suite in words; an unknown key gets a near match and the keys there are."""
    if error["type"] != "extra_forbidden":
        return error["msg"]
    model = SuiteRow if error["loc"][0] == "rows" else Suite
    return f"no such key.{near(str(error['loc'][-1]), model.model_fields)}"
