"""Suite x scale -> cells, with every fault listed at once and everything left out given a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bench.candidates import CHOICES
from bench.cell import Cell, Need, Profile
from bench.data.load import load_dataset
from bench.errors import BenchError, ConfigError, SuiteError, Unavailable
from bench.fingerprint import TUNE, code_of
from bench.method import Method, configure
from bench.registry import datasets, decoders, losses, methods, near
from bench.suite import PAPER_LOSSES, PAPER_METHODS, Scale, Suite, SuiteRow, scales
from bench.types import Dataset


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a run asks of a suite: its scale, its profile, and filters (None keeps everything)."""

    scale: str = "embedded"
    profile: Profile = "corrected"
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


@dataclass(frozen=True)
class Axes:
    """One value for each axis of a method; None where the method has no such axis."""

    loss: str | None = None
    decoder: str | None = None
    backbone: str | None = None


@dataclass
class _Expansion:
    suite: Suite
    choice: Choice
    scale: Scale
    support: dict[str, Cell] = field(default_factory=dict)

    def cell(
        self, dataset: str, seed: int, row: SuiteRow, axes: Axes, *, tuned: bool = True
    ) -> Cell:
        """Resolve one cell and, first, everything it needs; ``tuned`` permits a search before it."""
        method: type[Method] = methods.get(row.method)
        config = self._config(method, row, axes)
        data = load_dataset(dataset, self.choice.data_root, self.choice.profile)
        needs = dict(method.needs(config, loss=axes.loss, backbone=axes.backbone))
        keys = {name: self._need(dataset, seed, row, need) for name, need in needs.items()}
        tuning = self._tuning(method, row, axes, config) if tuned else None
        if tuning is not None:
            _check_held_out(data)
            first = self.suite.seeds_at(self.choice.scale)[0]
            keys["tuning"] = self._need(dataset, first, row, tuning)
        # a tuning sees as many rows as the method it tunes
        ranks = methods.get(config.method) if row.method == TUNE else method
        return replace(
            self._shape(row, ranks.family),
            dataset=dataset,
            data_version=data.version,
            seed=seed,
            config=_plain(config),
            tune=tuning.config["trials"] if tuning else 0,
            code=code_of(row.method, **asdict(axes), config=_plain(config)),
            needs=keys,
            **asdict(axes),
        )

    def stub(self, dataset: str, seed: int, row: SuiteRow, axes: Axes) -> Cell:
        """A cell for the board only: what was asked, though it cannot run."""
        shape = self._shape(row, "llm" if row.losses else "enhanced")
        return replace(shape, dataset=dataset, seed=seed, config=row.config, **asdict(axes))

    def _config(self, method: type[Method], row: SuiteRow, axes: Axes) -> Any:
        values = {**self.scale.config.get(row.method, {}), **row.config}
        return method.complete(configure(method, values), loss=axes.loss, decoder=axes.decoder)

    def _need(self, dataset: str, seed: int, asker: SuiteRow, need: Need) -> str:
        row = SuiteRow(method=need.method, config=dict(need.config), train_rows=asker.train_rows)
        axes = _defaults(methods.get(need.method), self.scale)
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
            "values": {**self.scale.config.get(row.method, {}), **row.config},
            "space": free,
            **{k: v for k, v in asdict(axes).items() if v},
        }
        return Need(method=TUNE, config=values) if free else None

    def _shape(self, row: SuiteRow, family: str) -> Cell:
        """A cell with everything that does not depend on the method's code or data."""
        train = row.train_rows or self.suite.train_rows or self.scale.train_rows[family]
        return Cell(
            dataset="",
            data_version="",
            method=row.method,
            scale=self.choice.scale,
            profile=self.choice.profile,
            protocol=CHOICES[self.choice.candidates],
            train_rows=None if train == "all" else train,
            valid_rows=self.suite.valid_rows or self.scale.valid_rows[family],
            test_rows=self.choice.limit or self.suite.test_rows or self.scale.test_rows,
        )


def _check_held_out(data: Dataset) -> None:
    if not data.split.held_out:
        raise Unavailable(
            f"nothing of {data.name} is held out to tune on: paper_faithful trains on all of its rows; "
            "tune under --profile corrected"
        )


def _given(config: Mapping[str, Any], name: str, loss: str | None) -> bool:
    """Whether a row's configuration fixes a value of a search space."""
    field, _, entry = name.partition(".")
    options = config.get(field, {})
    return entry in {**options, **options.get(loss, {})} if entry else field in config


def _plain(config: Any) -> dict[str, Any]:
    """A config as JSON-able values (tuples become lists, as they would on disk)."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return {k: plain(v) for k, v in asdict(config).items()}


def _defaults(method: type[Method], scale: Scale) -> Axes:
    return Axes(
        loss=method.losses[0] if method.losses else ("lml" if method.takes else None),
        decoder="beam" if method.decodes else None,
        backbone=scale.backbone if "pretrained" in method.tags else None,
    )


def expand(suite: Suite, choice: Choice) -> Grid:
    """Turn a suite into cells.

    Raises:
        SuiteError: names or values that no registry or config knows; all of them in one message.
    """
    scale = scales()[choice.scale]
    work = _Expansion(suite, choice, scale)
    grid = Grid([], work.support, [])
    faults = list(_idle_filters(suite, choice, scale))
    for dataset, row, seed in _points(suite, choice):
        for axes in _axes(row, scale, choice):
            if missing := _not_built(row, axes):
                grid.left_out.append((work.stub(dataset, seed, row, axes), missing))
                continue
            try:
                _check_fit(row, axes)
                grid.cells.append(work.cell(dataset, seed, row, axes))
            except Unavailable as reason:
                grid.left_out.append((work.stub(dataset, seed, row, axes), str(reason)))
            except BenchError as fault:
                faults.append(f"{dataset}/{row.method}: {fault}")
    if not (faults or grid.cells or grid.left_out):
        faults.append(f"no row is left at scale {choice.scale} after all filters")
    if faults:
        found = list(dict.fromkeys(faults))
        raise SuiteError(f"{len(found)} fault(s) in the suite:\n  " + "\n  ".join(found))
    grid.cells[:] = list({cell.key: cell for cell in grid.cells}.values())
    return grid


def _points(suite: Suite, choice: Choice) -> Iterator[tuple[str, SuiteRow, int]]:
    seeds = choice.seeds if choice.seeds is not None else suite.seeds_at(choice.scale)
    for dataset in filter(datasets.__contains__, _datasets(suite, choice)):
        for row in suite.rows:
            if choice.methods is None or row.method in choice.methods:
                yield from ((dataset, row, seed) for seed in seeds)


def _datasets(suite: Suite, choice: Choice) -> Sequence[str]:
    return choice.datasets or suite.datasets_at(choice.scale)


def _idle_filters(suite: Suite, choice: Choice, scale: Scale) -> Iterator[str]:
    """What is wrong with the filters: a name that no row of the suite has."""
    for name in _datasets(suite, choice):
        if name not in datasets:
            yield f"no dataset is called {name!r}.{near(name, datasets)}"
    rows = {row.method for row in suite.rows}
    for name in choice.methods or ():
        if name not in rows:
            yield f"--methods {name}: the suite has no such row.{near(name, rows)}"
    free = replace(choice, losses=None)
    axes = [axes for row in suite.rows for axes in _axes(row, scale, free)]
    known = {axis.loss for axis in axes if axis.loss is not None}
    for name in choice.losses or ():
        if name not in known:
            yield f"--losses {name}: no row of the suite has it.{near(name, known)}"


def _axes(row: SuiteRow, scale: Scale, choice: Choice) -> Iterator[Axes]:
    """Every combination of the values a row gives its axes."""
    base = _defaults(methods.get(row.method), scale) if row.method in methods else Axes()
    asked = [choice.backbone] if choice.backbone and base.backbone else row.backbones
    for loss in _values(row.losses, base.loss):
        if choice.losses is None or loss is None or loss in choice.losses:
            for decoder in _values(row.decoders, base.decoder):
                for backbone in _values(asked, base.backbone):
                    yield Axes(loss, decoder, backbone)


def _values(given: Sequence[str] | None, default: str | None) -> list[str | None]:
    return list(given) if given else [default]


def _not_built(row: SuiteRow, axes: Axes) -> str | None:
    """Why a row of the paper has no code yet; None if it has, or if it is nobody's plan."""
    if row.method not in methods and row.method in PAPER_METHODS:
        return f"not built yet: no method {row.method} is registered"
    if axes.loss in PAPER_LOSSES and axes.loss not in losses:
        return f"not built yet: no loss {axes.loss} is registered"
    return None


def _check_fit(row: SuiteRow, axes: Axes) -> None:
    """Raise what is wrong with a row: an unknown name or axes that the method does not have."""
    method: type[Method] = methods.get(row.method)
    if axes.decoder is not None:
        decoders.get(axes.decoder)
        if not method.decodes:
            raise ConfigError(f"it has no decoder, but {axes.decoder!r} is asked for")
    if axes.loss is None or axes.loss in method.losses:
        return
    if not method.takes or losses.get(axes.loss).kind not in method.takes:
        raise ConfigError(f"it does not take the loss {axes.loss!r}; it takes {_takes(method)}")


def _takes(method: type[Method]) -> str:
    registered = [n for n in losses if method.takes and losses.get(n).kind in method.takes]
    return ", ".join([*method.losses, *registered]) or "none"
