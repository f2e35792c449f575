"""Resolves one row of a suite to a cell: its configuration, its needs and the search before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.cell import Cell, Need
from bench.data.load import load_dataset
from bench.errors import BenchError, ConfigError, Unavailable
from bench.evaluation.candidates import CHOICES
from bench.experiment.axes import Axes, default_axes
from bench.experiment.backbones import require_backbone
from bench.experiment.choice import Choice
from bench.experiment.profiles import Profile, with_profile
from bench.experiment.suite import Scale, Suite, SuiteRow
from bench.method import Method, configure
from bench.registry import methods
from bench.results.identity import declared
from bench.results.source_hash import TUNE
from bench.types import Dataset


@dataclass
class Expansion:
    """Resolves the cells of one suite under one choice.

    Attributes:
        suite, choice, scale, profile: what is expanded, and how.
        support: by key, the cells that others need; filled by ``cell``.
    """

    suite: Suite
    choice: Choice
    scale: Scale
    profile: Profile
    support: dict[str, Cell] = field(default_factory=dict)

    def cell(
        self, dataset: str, seed: int, row: SuiteRow, axes: Axes, *, tuned: bool = True
    ) -> Cell:
        """Resolve one cell, and before it every cell that it needs.

        Args:
            dataset: registered name.
            seed: of the cell.
            row: its row of the suite.
            axes: one combination of the row's axes.
            tuned: whether a hyper-parameter search may precede it.
        """
        method: type[Method] = methods.get(row.method)
        config = self.config(method, row, axes)
        if axes.backbone is not None:
            require_backbone(method, axes.backbone, look=axes.backbone == self.choice.backbone)
        data = load_dataset(dataset, self.choice.data_root, uncut=self.profile.uncut)
        _check_titles(method, data)
        needs = dict(method.needs(config, loss=axes.loss, backbone=axes.backbone))
        keys = {name: self._need(dataset, seed, row, need) for name, need in needs.items()}
        tuning = self._tuning(method, row, axes, config) if tuned else None
        if tuning is not None:
            _check_held_out(data)
            first = self.suite.seeds_at(self.choice.scale)[0]
            keys["tuning"] = self._need(dataset, first, row, tuning)
        # a tuning sees as many rows as the method it tunes
        ranks = methods.get(config.method) if row.method == TUNE else method
        identity = declared(row.method, **asdict(axes), config=config.declared())
        return replace(
            self._shape(row, ranks.family),
            dataset=dataset,
            data_version=data.version,
            seed=seed,
            select_on="valid" if method.family == "stage" else self.profile.select_on,
            config=config.declared(),
            tune=tuning.config["trials"] if tuning else 0,
            versions=identity.versions,
            contents=identity.contents,
            needs=keys,
            **asdict(axes),
        )

    def stub(self, dataset: str, seed: int, row: SuiteRow, axes: Axes) -> Cell:
        """A cell that cannot run, to be shown in the tables with its reason.

        Args:
            dataset: registered name.
            seed: of the cell.
            row: its row of the suite.
            axes: one combination of the row's axes.
        """
        shape = self._shape(row, "llm" if row.losses else "enhanced")
        return replace(shape, dataset=dataset, seed=seed, config=row.config, **asdict(axes))

    def config(self, method: type[Method], row: SuiteRow, axes: Axes) -> Any:
        """The configuration of a row, every default filled in.

        Args:
            method: the row's method.
            row: gives values of its own.
            axes: its loss and decoder, whose options are part of the configuration.
        """
        values = self._values(method, row, axes)
        try:
            return method.complete(configure(method, values), loss=axes.loss, decoder=axes.decoder)
        except BenchError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as fault:
            # a value of another kind than the method expects, e.g. a number for a mapping
            kind = type(fault).__name__
            raise ConfigError(f"its config {values} cannot be read ({kind}: {fault})") from fault

    def _values(self, method: type[Method], row: SuiteRow, axes: Axes) -> dict[str, Any]:
        """Values of the row, completed by those of the scale and then of the profile."""
        sized = self.scale.values(row, decodes=method.decodes, backbone=axes.backbone)
        given = {**sized, **row.config}
        return with_profile(
            self.choice.profile,
            given,
            method=row.method,
            loss=axes.loss,
            decoder=axes.decoder,
            fields=frozenset(method.Config.model_fields),
        )

    def _need(self, dataset: str, seed: int, asker: SuiteRow, need: Need) -> str:
        row = SuiteRow(method=need.method, config=dict(need.config), train_rows=asker.train_rows)
        axes = default_axes(methods.get(need.method), self.scale)
        axes = Axes(
            need.loss or axes.loss, need.decoder or axes.decoder, need.backbone or axes.backbone
        )
        cell = self.cell(dataset, seed, row, axes, tuned=need.tuned)
        self.support[cell.key] = cell
        return cell.key

    def _tuning(self, method: type[Method], row: SuiteRow, axes: Axes, config: Any) -> Need | None:
        """The search that comes before a cell; None if none is asked for or there is nothing to tune.

        Raises:
            ConfigError: the row itself asks for a search where there is nothing to tune.
        """
        trials = row.tune or self.choice.tune
        if not trials:
            return None
        space = method.search_space(config, loss=axes.loss, backbone=axes.backbone)
        free = {k: list(v) for k, v in space.items() if not _given(row.config, k, axes.loss)}
        if not free and row.tune:
            why = "its configuration fixes all there is" if space else "it has no search space"
            raise ConfigError(f"tune is {row.tune}, but there is nothing to tune: {why}")
        values = {
            "method": row.method,
            "trials": trials,
            "values": self._values(method, row, axes),
            "defaults_cell": self.profile.select_on == "valid",
            "space": free,
            **{k: v for k, v in asdict(axes).items() if v},
        }
        return Need(method=TUNE, config=values) if free else None

    def _shape(self, row: SuiteRow, family: str) -> Cell:
        """A cell with everything that does not depend on the method's code or data."""
        return Cell(
            dataset="",
            data_version="",
            method=row.method,
            scale=self.choice.scale,
            profile=self.choice.profile,
            uncut=self.profile.uncut,
            protocol=CHOICES[self.choice.candidates],
            train_rows=self.train_rows(row, family),
            valid_rows=self._valid_rows(family),
            test_rows=self.choice.limit or self.suite.test_rows or self.scale.test_rows,
        )

    def train_rows(self, row: SuiteRow, family: str) -> int | None:
        """Largest number of training rows for a row; None for all.

        Args:
            row: may set its own.
            family: of its method; each scale has a cap for each family.
        """
        rows = row.train_rows or self.suite.train_rows or self.scale.train_rows[family]
        return None if rows == "all" else rows

    def _valid_rows(self, family: str) -> int | None:
        if self.profile.valid_rows != "scale":
            return self.profile.valid_rows
        return self.suite.valid_rows or self.scale.valid_rows[family]


def _check_held_out(data: Dataset) -> None:
    if not data.split.held_out:
        raise Unavailable(
            f"nothing of {data.name} is held out to tune on: this profile trains on all of its rows; "
            "tune under --profile corrected"
        )


def _check_titles(method: type[Method], data: Dataset) -> None:
    if "text" in method.tags and not any(title.strip() for title in data.catalogue.titles):
        raise Unavailable(
            f"{data.name} has no titles, and {method.name} reads them; import it with --title-column or "
            "--items FILE"
        )


def _given(config: Mapping[str, Any], name: str, loss: str | None) -> bool:
    """Whether a row's configuration fixes a value of a search space."""
    field, _, entry = name.partition(".")
    options = config.get(field, {})
    return entry in {**options, **options.get(loss, {})} if entry else field in config
