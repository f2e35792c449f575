"""Method: the contract a recommender fulfils.

A method learns from training rows and a validation exam, and continues histories. It never sees a test
target and never computes a reported metric; the runner does both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import bench.config
from bench.cell import Need, Run, Size
from bench.config import Config, Empty, require_config
from bench.registry import losses
from bench.saved import keep, restore
from bench.types import Exam, Identity, Queries, Ranking, Windows

__all__ = [
    "Family",
    "Method",
    "NoConfig",
    "assign",
    "configure",
    "keep",
    "losses_of",
    "restore",
]

Family = Literal["floor", "traditional", "enhanced", "llm", "stage"]
NoConfig = Empty  # the name that plugins know


class Configurable(Protocol):
    """A method, loss or decoder: a name and a class of configurations."""

    @property
    def name(self) -> str:
        """The registered name."""

    @property
    def Config(self) -> type[Config]:
        """What it may be told."""


class Method(ABC):
    """Base class of every recommender.

    Class attributes:
        family: what the tables group by. ``stage`` methods make artefacts for others and never rank.
        version: declared by the author and raised when results move at equal configurations; it is part
            of what identifies a result.
        takes: kinds of registered losses it accepts (``item``, ``token``, ``preference``); empty if its
            training has no such axis.
        default_loss: the one that a row without a loss gets; None where there is no such axis.
        untrained: names on the axis of losses that stand for no training at all (``zero_shot``).
        decodes: True if the decoder is an axis of this method.
        identity: whether its lists name items or title classes.
        Config: a subclass of ``bench.config.Config`` with a default for every field.
        search: by config field, the values a tuning may try; see ``search_space``.
        toy: config values and, under ``backbone``, the backbone that let the conformance suite fit
            the method on its toy data in a second or two.
        tags: what a reader might filter by (``text``, ``pretrained``).
    """

    name: ClassVar[str] = ""  # set by the registry
    family: ClassVar[Family]
    version: ClassVar[int] = 1
    takes: ClassVar[frozenset[str]] = frozenset()
    default_loss: ClassVar[str | None] = None
    untrained: ClassVar[tuple[str, ...]] = ()
    decodes: ClassVar[bool] = False
    identity: ClassVar[Identity] = "item"
    Config: ClassVar[type[Config]] = Empty
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    toy: ClassVar[Mapping[str, Any]] = {}
    tags: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        require_config(cls)

    def __init__(
        self,
        config: Any = None,
        *,
        loss: str | None = None,
        decoder: str | None = None,
        backbone: str | None = None,
    ) -> None:
        self.config = configure(type(self), config)
        self.loss, self.decoder, self.backbone = loss, decoder, backbone

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The cells whose artefacts ``fit`` will find in ``run.inputs``, by name."""
        return {}

    @classmethod
    def complete(cls, config: Any, *, loss: str | None, decoder: str | None) -> Any:
        """``config`` with the defaults of its loss and decoder written in, so that a row shows them."""
        return config

    @classmethod
    def search_space(
        cls, config: Any, *, loss: str | None, backbone: str | None
    ) -> Mapping[str, tuple[Any, ...]]:
        """The values a tuning may try, by config field; empty if there is nothing to tune.

        ``loss_options.tau`` stands for the entry ``tau`` of the field ``loss_options``.
        """
        return cls.search

    @abstractmethod
    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Learn from ``train``; ``valid`` is for choosing the epoch and nothing else.

        Raises:
            Unavailable: this machine lacks something; the cell is left out with the reason.
        """

    @abstractmethod
    def recommend(self, queries: Queries, k: int) -> Ranking:
        """The best ``k`` items for each history, no repeats, best first.

        The order of the queries must not matter to any single list.
        """

    def save(self, folder: Path) -> None:
        """Write what ``recommend`` needs; no pickles (safetensors, npy, JSON)."""

    def load(self, folder: Path, *, device: str) -> None:
        """Undo ``save`` on a method built with the same configuration."""

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """A guess of the whole cell's seconds on two cores, used until a real cell was timed."""
        return 2.0


def configure(
    owner: Configurable, given: Mapping[str, Any] | Config | None, *, stored: bool = False
) -> Any:
    """What is given as an instance of the Config of a method, loss or decoder; see ``bench.config``."""
    return bench.config.configure(owner.Config, given, owner=owner.name, stored=stored)


def losses_of(method: type[Method]) -> list[str]:
    """What a method's axis of losses may hold, its default first; empty where it has no such axis."""
    taken = [name for name in losses if method.takes and losses.get(name).kind in method.takes]
    first = [method.default_loss] if method.default_loss else []
    return list(dict.fromkeys([*first, *method.untrained, *taken]))


def assign(values: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with those found by a search written in; a dotted name reaches into a mapping."""
    whole = dict(values)
    for name, value in found.items():
        field, _, entry = name.partition(".")
        whole[field] = {**whole.get(field, {}), entry: value} if entry else value
    return whole
