"""A small hyper-parameter search on validation, the same budget for every method.

A search is a cell of its own, shared by all seeds of a method. Trial 0 is the default configuration, which is
also a cell and shown in the tables beside the tuned one; the other trials are drawn by Optuna's TPE from the
search spaces of the method and its loss. A search never sees test rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, PositiveInt

from bench.cell import SELECT_BY, K, Need, Run, Size
from bench.config import Config
from bench.disk.sealed import owner, read_note, set_aside, write_note
from bench.disk.storage import write_json
from bench.errors import ConfigError, DamagedError
from bench.evaluation.metrics import evaluate
from bench.method import Method, assign, configure
from bench.registry import methods
from bench.types import Exam, Queries, Ranking, Windows

DEFAULTS, TRIALS = "defaults", "trials.json"


class TuneConfig(Config):
    """What is searched for, and how long."""

    method: str = ""
    """The method whose configuration is searched."""
    loss: str | None = None
    """Its loss."""
    decoder: str | None = None
    """Its decoder."""
    backbone: str | None = None
    """Its backbone."""
    trials: PositiveInt = 4
    """How many different configurations are tried, the defaults included."""
    values: Mapping[str, Any] = Field(default_factory=dict)
    """Configuration values that differ from the method's defaults."""
    space: Mapping[str, Sequence[Any]] = Field(default_factory=dict)
    """The values to try, by name; see ``Method.search_space``."""
    defaults_cell: bool = True
    """Whether trial 0 is the cell of the defaults; not where that was chosen on the test rows, which a
    search must not know."""


@methods.register("tune")
class Tune(Method):
    """The best of a few configurations on validation NDCG@5, defaults first."""

    family = "stage"
    Config = TuneConfig

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The cells that the tuned method needs, and that method with its default configuration."""
        tuned: type[Method] = methods.get(config.method)
        axes = {"loss": config.loss, "backbone": config.backbone}
        itself = Need(
            method=config.method, decoder=config.decoder, config=config.values, tuned=False, **axes
        )
        found = tuned.needs(_start(config), **axes)
        return {**found, DEFAULTS: itself} if config.defaults_cell else found

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float | None:
        """The tuned method's estimate times the trials; the first is another cell and not counted."""
        tuned: type[Method] = methods.get(config.method)
        size = replace(size, loss=config.loss, backbone=config.backbone)
        once = tuned.estimate_seconds(_start(config), size)
        return None if once is None else float(config.trials - 1) * once

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Try the configurations one after the other; a resumed search does not repeat finished trials."""
        if not self.config.space:
            raise ConfigError(
                f"{self.config.method} has no search space, so there is nothing to tune"
            )
        kind: type[Method] = methods.get(self.config.method)
        start = _start(self.config).as_dict()
        first = {name: _value(start, name) for name in self.config.space}
        # a default that the space leaves out is tried all the same
        space = {n: list(dict.fromkeys([*v, first[n]])) for n, v in self.config.space.items()}
        search = _Search(space, first, run.seed_for("tuning"))
        self.trials: list[dict[str, Any]] = _read(run.folder / TRIALS)
        n_trials = min(self.config.trials, prod(map(len, space.values())))
        for number in range(n_trials):
            asked = search.ask()
            if number < len(self.trials) and self.trials[number]["config"] == asked:
                score = self.trials[number]["score"]
            else:
                del self.trials[number:]
                values = assign(start, asked)
                if number == 0 and self.config.defaults_cell:
                    score = _score(run.load(DEFAULTS), train, valid)
                else:
                    part = partial(_part, run, number, n_trials)
                    score = self._try(kind, values, train, valid, replace(run, progress=part))
                self.trials.append({"config": asked, "score": score})
                write_note(run.folder / TRIALS, {"of": owner(run.folder), "trials": self.trials})
            search.tell(score)
            run.progress(number + 1, n_trials, ndcg5=score)
        run.facts["trials"] = self.trials

    def _try(
        self, kind: type[Method], values: Mapping[str, Any], train: Windows, valid: Exam, run: Run
    ) -> float:
        method = kind(
            configure(kind, values),
            loss=self.config.loss,
            decoder=self.config.decoder,
            backbone=self.config.backbone,
        )
        folder = run.folder / f"trial-{len(self.trials)}"
        folder.mkdir(parents=True, exist_ok=True)
        method.fit(train, valid, replace(run, folder=folder, facts={}))
        score = _score(method, train, valid)
        shutil.rmtree(folder, ignore_errors=True)
        return score

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """Not defined: a search makes no lists."""
        raise NotImplementedError("a tuning recommends nothing; its best configuration is used")

    def save(self, folder: Path) -> None:
        """The best configuration and every trial."""
        best = max(self.trials, key=lambda trial: trial["score"])
        write_json(folder / "best.json", best)
        write_json(folder / TRIALS, self.trials)


class _Search:
    """Optuna's TPE over a grid; a point that it repeats is replaced by a random untried one."""

    def __init__(self, space: Mapping[str, list[Any]], first: Mapping[str, Any], seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        draw = optuna.distributions.CategoricalDistribution
        self._space: dict[str, Any] = {name: draw(values) for name, values in space.items()}
        self._left = [dict(zip(space, point, strict=True)) for point in product(*space.values())]
        self._rng = np.random.default_rng(seed)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._study.enqueue_trial(dict(first))
        self._void = optuna.trial.TrialState.FAIL

    def ask(self) -> dict[str, Any]:
        """The next point."""
        self._trial = self._study.ask(self._space)
        if self._trial.params not in self._left:
            other = self._left[self._rng.integers(len(self._left))]
            self._study.tell(self._trial, state=self._void)
            self._study.enqueue_trial(other)
            self._trial = self._study.ask(self._space)
        self._left.remove(self._trial.params)
        return dict(self._trial.params)

    def tell(self, score: float) -> None:
        """Report the score of the point that ``ask`` returned last."""
        self._study.tell(self._trial, score)


def _start(config: TuneConfig) -> Any:
    """The tuned method's configuration before the search, with all defaults."""
    tuned: type[Method] = methods.get(config.method)
    return tuned.complete(configure(tuned, config.values), loss=config.loss, decoder=config.decoder)


def _score(method: Method, train: Windows, valid: Exam) -> float:
    ranking = method.recommend(valid.queries, min(K, train.n_items))
    return evaluate(ranking, valid, train_count=train.target_count, names=method.identity)[
        SELECT_BY
    ]


def _value(values: Mapping[str, Any], name: str) -> Any:
    field, _, entry = name.partition(".")
    return values[field][entry] if entry else values[field]


def _read(path: Path) -> list[dict[str, Any]]:
    """The trials of an interrupted search; none if what is there is damaged, which is set aside."""
    try:
        note = read_note(path)
    except FileNotFoundError:
        return []
    except DamagedError as damage:
        set_aside(damage)
        return []
    return list(note["trials"]) if note["of"] == owner(path.parent) else []


def _part(run: Run, number: int, trials: int, done: float, total: float, **numbers: float) -> None:
    """Progress of one trial as a share of the whole search."""
    run.progress(number + done / max(total, 1e-9), trials, **numbers)
