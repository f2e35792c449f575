"""Expands a suite into cells: all faults are listed at once, and what is left out has a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bench.cell import Cell, Need
from bench.data.load import load_dataset
from bench.errors import BenchError, ConfigError, SuiteError, Unavailable
from bench.evaluation.candidates import CHOICES
from bench.experiment.axes import Axes, axes_of, check_fit, default_axes, not_built
from bench.experiment.profiles import Profile, decoders_of, profile, with_profile
from bench.experiment.suite import Scale, Suite, SuiteRow, scales
from bench.method import Method, configure
from bench.registry import datasets, methods, near
from bench.results.identity import declared
from bench.results.source_hash import TUNE
from bench.types import Dataset

SEEDS = 2**32  # what np.random.seed takes: 0 up to here


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Options of a run: scale, profile and filters; a filter that is None keeps everything."""

    scale: str = "embedded"
    profile: str = "corrected"
    data_root: Path | None = None
    datasets: Sequence[str] | None = None
    methods: Sequence[str] | None = None
    losses: Sequence[str] | None = None
    seeds: Sequence[int] | None = None
    backbone: str | None = None
    tune: int = 0
    limit: int | None = None
    candidates: Literal["all", "known"] = "all"


@dataclass(frozen=True)
class Grid:
    """The outcome of expanding a suite.

    Attributes:
        cells: what the suite asks for, in its order.
        support: cells that others need, by key.
        left_out: cells that cannot run here or are not built yet, with the reason.
    """

    cells: list[Cell]
    support: dict[str, Cell]
    left_out: list[tuple[Cell, str]]

    @property
    def by_key(self) -> dict[str, Cell]:
        """Every cell there is work for."""
        return {**self.support, **{cell.key: cell for cell in self.cells}}


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
        data = load_dataset(dataset, self.choice.data_root, uncut=self.profile.uncut)
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
        """Values of the profile, the scale and the row; the row's replace the scale's, these the profile's."""
        given = {**self.scale.config.get(row.method, {}), **row.config}
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


def _given(config: Mapping[str, Any], name: str, loss: str | None) -> bool:
    """Whether a row's configuration fixes a value of a search space."""
    field, _, entry = name.partition(".")
    options = config.get(field, {})
    return entry in {**options, **options.get(loss, {})} if entry else field in config


def expand(suite: Suite, choice: Choice) -> Grid:
    """Turn a suite into cells, with every fault of it reported at once.

    Args:
        suite: the suite.
        choice: scale, profile and filters.

    Raises:
        SuiteError: names or values that no registry or config knows; all of them in one message.
    """
    scale = scales()[choice.scale]
    work = Expansion(suite, choice, scale, profile(choice.profile))
    grid = Grid([], work.support, [])
    faults = list(_idle_filters(suite, choice, scale))
    for dataset, row, seed in _points(suite, choice):
        for axes in _axes(row, choice, scale, losses=choice.losses):
            if missing := not_built(row, axes):
                grid.left_out.append((work.stub(dataset, seed, row, axes), missing))
                continue
            try:
                check_fit(row, axes)
                grid.cells.append(work.cell(dataset, seed, row, axes))
            except Unavailable as reason:
                grid.left_out.append((work.stub(dataset, seed, row, axes), str(reason)))
            except BenchError as fault:
                faults.append(f"{dataset}/{row.method}: {fault}")
    faults += _shared_slots(grid)
    if not (faults or grid.cells or grid.left_out):
        faults.append(f"no row is left at scale {choice.scale} after all filters")
    if faults:
        found = list(dict.fromkeys(faults))
        raise SuiteError(f"{len(found)} fault(s) in the suite:\n  " + "\n  ".join(found))
    grid.cells[:] = list({cell.key: cell for cell in grid.cells}.values())
    return grid


def _points(suite: Suite, choice: Choice) -> Iterator[tuple[str, SuiteRow, int]]:
    seeds = _seeds(suite, choice)
    for dataset in filter(datasets.__contains__, _datasets(suite, choice)):
        for row in suite.rows:
            if choice.methods is None or row.method in choice.methods:
                yield from ((dataset, row, seed) for seed in seeds)


def _axes(
    row: SuiteRow, choice: Choice, scale: Scale, losses: Sequence[str] | None = None
) -> Iterator[Axes]:
    given = decoders_of(choice.profile, row.method)
    return axes_of(row, scale, backbone=choice.backbone, losses=losses, decoders_of=given)


def _seeds(suite: Suite, choice: Choice) -> Sequence[int]:
    return choice.seeds if choice.seeds is not None else suite.seeds_at(choice.scale)


def _datasets(suite: Suite, choice: Choice) -> Sequence[str]:
    return choice.datasets or suite.datasets_at(choice.scale)


def _shared_slots(grid: Grid) -> Iterator[str]:
    """Pairs of cells whose rows would have the same file, so that each would overwrite the other's."""
    first: dict[str, Cell] = {}
    for cell in grid.by_key.values():
        other = first.setdefault(cell.slot, cell)
        if other != cell:
            yield (
                f"{cell.label}: asked for twice, with one configuration but on different needs (such as "
                "the search before it), and there is one row for both; leave one out or set it apart by "
                "a value of its own"
            )


def _idle_filters(suite: Suite, choice: Choice, scale: Scale) -> Iterator[str]:
    """Faults of filters and seeds: names that no row has, seeds that NumPy does not take."""
    for name in _datasets(suite, choice):
        if name not in datasets:
            yield f"no dataset is called {name!r}.{near(name, datasets)}"
    rows = {row.method for row in suite.rows}
    for name in choice.methods or ():
        if name not in rows:
            yield f"--methods {name}: the suite has no such row.{near(name, rows)}"
    every = [axes for row in suite.rows for axes in _axes(row, choice, scale)]
    known = {axes.loss for axes in every if axes.loss is not None}
    for name in choice.losses or ():
        if name not in known:
            yield f"--losses {name}: no row of the suite has it.{near(name, known)}"
    for seed in _seeds(suite, choice):
        if not 0 <= seed < SEEDS:
            yield f"seed {seed}: it must be from 0 to {SEEDS - 1}; NumPy takes no other"
