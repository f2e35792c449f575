"""Cell (a unit of work), Need (of another cell), Run (what a method is given), Row (its result)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.saved import restore

if TYPE_CHECKING:
    from bench.method import Method

Status = Literal["done", "failed", "left out"]
Chooser = Literal["valid", "test"]
PROTOCOL = "1"  # raise it when a change to the protocol moves a number; boards never mix protocols
CUTOFFS = (1, 5, 10)
K = max(CUTOFFS)
HEADLINE = "ndcg@10"  # what tables rank by
SELECT_BY = "ndcg@5"  # on validation: epochs, tunings and configurations are chosen by it
AXES = ("loss", "decoder", "backbone")
BOARD = ("scale", "profile")  # where a row is shown: what they decide is in other fields
ANSWERING = (
    "data_version",
    "versions",
    "contents",
    "needs",
)  # what answers a question, not the question


UNSEEN = "no loss over answer tokens was trained; among item ids none is invalid, so the loss has one part"


def digest(thing: Any) -> str:
    """SHA-256 of a JSON-able thing in canonical form, hex."""
    text = json.dumps(thing, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Need:
    """A request for another cell's artefacts, on the same dataset, seed, scale and profile.

    Attributes:
        method: registered name; methods of family ``stage`` exist only to be needed.
        loss, decoder, backbone: its axes, None for the default.
        config: values that differ from that method's defaults.
        tuned: whether a search that is asked for everywhere comes before this cell too.
    """

    method: str
    loss: str | None = None
    decoder: str | None = None
    backbone: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tuned: bool = True


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One unit of work: one method, fitted and examined once. Frozen, serialisable, self-sufficient.

    Attributes:
        dataset: registered name of the dataset.
        data_version: hash of the data it runs on.
        method, loss, decoder, backbone: the axes; None where a method has no such axis.
        seed: root of all its seed streams.
        scale: embedded, laptop, small or full; names the board, its caps are in the fields below.
        profile: names the board; the values that the profile sets are in the fields below.
        train_rows, valid_rows, test_rows: caps on the rows, None for all.
        select_on: the exam that chooses the epoch, ``valid`` or (as in the released code) ``test``.
        uncut: whether it trains on all published training rows, validation cut out of none.
        config: the method's configuration with every default filled in.
        tune: trials of the hyper-parameter search that precedes the fit, 0 for none.
        versions: by role (method, loss, decoder), the version that its author declares.
        contents: by role, the hash of what has no declared version: a plugin's file, a model's folder.
        needs: by name, the key of each cell whose artefacts this one consumes.
        protocol: version of sampling, scoring and title classes.
    """

    dataset: str
    data_version: str
    method: str
    loss: str | None = None
    decoder: str | None = None
    backbone: str | None = None
    seed: int = 0
    scale: str = "embedded"
    profile: str = "corrected"
    train_rows: int | None = None
    valid_rows: int | None = None
    test_rows: int | None = None
    select_on: Chooser = "valid"
    uncut: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    tune: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    protocol: str = PROTOCOL

    @cached_property
    def key(self) -> str:
        """Hash of all that the cell declares, 16 hex digits: equal keys mean one and the same result.

        Neither source nor library versions are part of it: renaming, moving and cleaning cost no row. What
        moves results raises a version (CONTRIBUTING.md, "What a version is").
        """
        return digest(self._without(BOARD))[:16]

    @property
    def slot(self) -> str:
        """Hash of what the cell asks for, without versions and data, 12 hex digits.

        It names the file of the row, so a new row replaces that of an older version.
        """
        return digest(self._without(ANSWERING))[:12]

    def _without(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in names}

    @property
    def label(self) -> str:
        """Short name for tables and logs, e.g. ``book/bigrec+msl_ats/beam[scratch]#0``.

        A search names what it is for: ``book/tune(sasrec+ce)#0``.
        """
        tuned = f"~{self.tune}" if self.tune else ""
        asked = self.config if "method" in self.config else {}
        what = f"({_line(asked['method'], *map(asked.get, AXES))})" if asked else ""
        line = _line(self.method, *(getattr(self, axis) for axis in AXES))
        return f"{self.dataset}/{line}{what}{tuned}#{self.seed}"

    @property
    def name(self) -> str:
        """The label with the first digits of the key, which names this cell and no other.

        E.g. ``book/sasrec+ce#0@1f0c9a``; the verbs take it back.
        """
        return f"{self.label}@{self.key[:6]}"

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able copy; ``Cell(**d)`` gives the cell back."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a cell, as far as it matters for its duration.

    Attributes:
        train_rows, test_rows, n_items: after the caps of the scale.
        valid_rows: rows of the validation exam, which the fitted method is asked once.
        characters: mean length of a training row's titles together, its target's included; 0 if unknown.
        loss, backbone: the axes that make a difference; None for the default.
    """

    train_rows: int
    test_rows: int
    n_items: int
    valid_rows: int = 0
    characters: float = 0.0
    loss: str | None = None
    backbone: str | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result of a cell; all tables are made from rows and the packed files beside them.

    Attributes:
        cell: the cell.
        status: done, failed or left out.
        reason: why, unless done; one line.
        n: test queries; every metric is computed from the packed file beside the row.
        valid: means on the validation exam, of rows made before its positions were packed.
        cost: by phase (``fit``, ``recommend``): seconds, peak bytes, users per second, joules or None.
        facts: numbers of the method (parameters, epochs, tau ...) and of its decoder.
        provenance: date, commit, dirty flag, hash of the source, library versions, machine, threads.
    """

    cell: Cell
    status: Status
    reason: str = ""
    n: int = 0
    valid: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able copy, with the cell's key and label beside it."""
        return {"key": self.cell.key, "label": self.cell.label, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """A row from what ``as_dict`` returned."""
        rest = {k: v for k, v in data.items() if k not in ("key", "label", "sha256", "cell")}
        return cls(cell=Cell(**data["cell"]), **rest)


def _line(method: str, loss: str | None, decoder: str | None, backbone: str | None) -> str:
    text = f"{method}+{loss}" if loss else method
    text += f"/{decoder}" if decoder else ""
    return text + (f"[{backbone}]" if backbone else "")


def _silent(done: float, total: float, **numbers: float) -> None:
    """Ignore progress."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that a method is given beside its data.

    Attributes:
        seed: root of the named seed streams.
        device: ``cpu``, ``cuda`` ...; the one device this cell may use.
        folder: scratch space of this cell, kept across an interrupted and resumed run. Checkpoints go here.
        inputs: by the name in ``needs``, the folder where that cell's method was saved.
        progress: ``progress(done, total, **numbers)``; call it per epoch or per few steps.
        facts: numbers worth a column (``parameters_total``, ``epochs`` ...); the runner puts them in the row.
        microscope: how often the training is looked at for the record ``facts["microscope"]``; 0 for as often
            as costs little, None for never. It must not change what is learnt.
    """

    seed: int
    device: str
    folder: Path
    inputs: Mapping[str, Path] = field(default_factory=dict)
    progress: Callable[..., None] = _silent
    facts: dict[str, Any] = field(default_factory=dict)
    microscope: int | None = None

    def __post_init__(self) -> None:
        if self.microscope is not None:  # what is seen replaces it
            self.facts["microscope"] = {"left_out": UNSEEN}

    def seed_for(self, stream: str) -> int:
        """A seed of 31 bits for one named use; streams are independent, so a new one changes no result."""
        return int(digest([self.seed, stream])[:8], 16) >> 1

    def load(self, name: str) -> Method:
        """The fitted method of a needed cell, ready to recommend."""
        return restore(self.inputs[name], device=self.device)
