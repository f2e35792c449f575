"""Method: the base class and contract of every recommender.

A method learns from training rows and a validation exam, and continues histories. It never sees a test
target and never computes a reported metric; the runner does both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import bench.config
from bench.cell import Need, Run, Size
from bench.config import Config, Empty, require_config
from bench.errors import ConfigError
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
SECONDS_A_SCORE = 4e-8  # of a method that only counts


class Configurable(Protocol):
    """A method, loss or decoder: a name and a class of configurations."""

    @property
    def name(self) -> str:
        """The registered name."""

    @property
    def Config(self) -> type[Config]:
        """Its class of configurations."""


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
        not_decoded_by: by name, registered decoders that it cannot be read out by, and why.
        identity: whether its lists name items or title classes.
        Config: a subclass of ``bench.config.Config`` with a default for every field.
        search: by config field, the values a tuning may try; see ``search_space``.
        toy: config values and, under ``backbone``, the backbone that let the conformance suite fit
            the method on its toy data in a second or two.
        tags: what a reader might filter by (``text``, ``pretrained``).
        files: data files that it reads, from the folder of its own file; their content is part of what
            identifies a result.
        backbones: names of language models that it knows how to get without a folder or the hub.
    """

    name: ClassVar[str] = ""  # set by the registry
    family: ClassVar[Family]
    version: ClassVar[int] = 1
    takes: ClassVar[frozenset[str]] = frozenset()
    default_loss: ClassVar[str | None] = None
    untrained: ClassVar[tuple[str, ...]] = ()
    decodes: ClassVar[bool] = False
    not_decoded_by: ClassVar[Mapping[str, str]] = {}
    identity: ClassVar[Identity] = "item"
    Config: ClassVar[type[Config]] = Empty
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    toy: ClassVar[Mapping[str, Any]] = {}
    tags: ClassVar[frozenset[str]] = frozenset()
    files: ClassVar[tuple[str, ...]] = ()
    backbones: ClassVar[frozenset[str]] = frozenset()

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
        """The cells whose artefacts ``fit`` finds in ``run.inputs``, by name.

        Args:
            config: the method's configuration.
            loss: name of its loss, if any.
            backbone: name of its language model, if any.
        """
        return {}

    @classmethod
    def complete(cls, config: Any, *, loss: str | None, decoder: str | None) -> Any:
        """The configuration with the defaults of its loss and decoder written in, for the row.

        Args:
            config: the method's configuration.
            loss: name of its loss, if any.
            decoder: name of its decoder, if any.
        """
        return config

    @classmethod
    def search_space(
        cls, config: Any, *, loss: str | None, backbone: str | None
    ) -> Mapping[str, tuple[Any, ...]]:
        """The values a tuning may try, by config field; empty if there is nothing to tune.

        ``loss_options.tau`` stands for the entry ``tau`` of the field ``loss_options``.

        Args:
            config: the method's configuration.
            loss: name of its loss, if any.
            backbone: name of its language model, if any.
        """
        return cls.search

    @classmethod
    def foresee(
        cls, config: Any, train: Windows, *, loss: str | None, backbone: str | None
    ) -> Iterable[str]:
        """What will happen in a cell that its user should know before it runs, a sentence each.

        `bench plan` prints it, so it must be found in a second or two, without a model.

        Args:
            config: the method's configuration.
            train: the dataset's training rows, all of them.
            loss: name of its loss, if any.
            backbone: name of its language model, if any.
        """
        return ()

    @abstractmethod
    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Learn from the training rows.

        Args:
            train: training rows.
            valid: queries with targets for choosing the epoch, and for nothing else.
            run: seeds, device, scratch folder, needed artefacts and progress.

        Raises:
            Unavailable: this machine lacks something; the cell is left out with the reason.
        """

    @abstractmethod
    def recommend(self, queries: Queries, k: int) -> Ranking:
        """The best ``k`` items for each history, without repeats, best first.

        No list may depend on the order of the queries.

        Args:
            queries: histories to continue.
            k: length of the lists.
        """

    def save(self, folder: Path) -> None:
        """Write what ``recommend`` needs; no pickles (safetensors, npy, JSON)."""

    def load(self, folder: Path, *, device: str) -> None:
        """Take over what ``save`` wrote, on a method built with the same configuration.

        Args:
            folder: where ``save`` wrote.
            device: ``cpu``, ``cuda`` ...
        """

    def export(self, folder: Path, *, form: str) -> None:
        """Write the language model inside for other tools; methods without one refuse.

        Args:
            folder: an existing folder.
            form: ``peft`` for its adapters, ``hf`` for all of it.

        Raises:
            ConfigError: there is none, or not in that form.
        """
        raise ConfigError(f"{self.name} has no language model to export; --trec writes its lists")

    @classmethod
    def spreads(cls, config: Any, *, loss: str | None) -> bool:
        """Whether several processes may share the work of one cell, by way of ``bench.ranks``.

        Each runs ``fit`` and ``recommend`` with the same arguments and has to end with the same result as
        one process alone, rounding aside: the number of processes is no part of what identifies a result.

        Args:
            config: the method's configuration.
            loss: name of its loss, if any.
        """
        return False

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float | None:
        """How long a cell takes, its start aside, on one core of a machine of 2020.

        What is known of cells that were run, here or elsewhere, corrects it by a factor; what counts is how
        it grows with the rows. None, the default of all but floors, if that is not known: cells are then
        taken to grow with their training and test rows.

        Args:
            config: the method's configuration.
            size: rows, items and axes of the cell.
        """
        if cls.family != "floor":
            return None
        return 0.05 + SECONDS_A_SCORE * size.n_items * (size.test_rows + size.valid_rows)


def configure(
    owner: Configurable, given: Mapping[str, Any] | Config | None, *, stored: bool = False
) -> Any:
    """Values as a checked configuration of a method, loss or decoder; see ``bench.config.configure``.

    Args:
        owner: the method, loss or decoder.
        given: values by key, a finished configuration, or None for the defaults.
        stored: whether ``given`` was read from a row.
    """
    return bench.config.configure(owner.Config, given, owner=owner.name, stored=stored)


def losses_of(method: type[Method]) -> list[str]:
    """The losses that a method takes, its default first; empty where the loss is no axis of it."""
    taken = [name for name in losses if method.takes and losses.get(name).kind in method.takes]
    first = [method.default_loss] if method.default_loss else []
    return list(dict.fromkeys([*first, *method.untrained, *taken]))


def assign(values: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the results of a search written in.

    Args:
        values: a configuration's values.
        found: by field, the value found; ``loss_options.tau`` is the entry ``tau`` of the field
            ``loss_options``.
    """
    whole = dict(values)
    for name, value in found.items():
        field, _, entry = name.partition(".")
        whole[field] = {**whole.get(field, {}), entry: value} if entry else value
    return whole
