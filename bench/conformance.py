"""Checks in seconds whether a method, a loss or a decoder keeps its contract.

A method is fitted on toy data; a loss or a decoder names the module with its checks. ``bench test NAME``
prints the results; one parametrised test runs over each registry.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bench.cell import Need, Run
from bench.component import Component, Kind, Loss
from bench.errors import BenchError, ConfigError, ContractError, Unavailable
from bench.evaluation.checks import check_ranking
from bench.method import Method, configure, keep, losses_of, restore
from bench.registry import decoders, methods
from bench.text.plain import one_line
from bench.text.secrets import without_secrets
from bench.types import Catalogue, Exam, Queries, Ragged, Ranking, Windows

N_ITEMS, N_ROWS, N_QUERIES = 40, 160, 24
LIST, LONGER = 5, 8  # items asked for; a beam search has ten
SEED = 7


@dataclass(frozen=True)
class Finding:
    """Result of one check: its sentence, whether it holds, and what was found if not."""

    question: str
    ok: bool
    seen: str = ""


@dataclass(frozen=True)
class Toy:
    """Toy data, in which item i is mostly followed by item i + 1, so that a method can learn from it."""

    train: Windows
    valid: Exam
    queries: Queries


def toy_data() -> Toy:
    """160 training rows over 40 items (two share a title, one is never trained), 24 queries."""
    chance = np.random.default_rng(SEED)
    titles = ["", *(f"The {w} of {p}" for w in _WORDS[:8] for p in _WORDS[8:13])]
    titles[9] = titles[4]
    catalogue = Catalogue(tuple(titles), "book")

    def walk(length: int) -> list[int]:
        start = int(chance.integers(1, N_ITEMS))
        steps = chance.choice([1, 1, 1, 2], size=length).cumsum()
        return [(start + int(s) - 1) % (N_ITEMS - 1) + 1 for s in steps]

    def exam(n: int) -> Exam:
        rows = [walk(int(chance.integers(3, 11))) for _ in range(n)]
        history = Ragged.of([row[:-1] for row in rows])
        queries = Queries(catalogue, np.arange(n), history, np.full(n, 10**9))
        return Exam(queries, np.array([row[-1] for row in rows], np.int32))

    rows = [walk(int(chance.integers(3, 12))) for _ in range(N_ROWS)]
    train = Windows(
        catalogue,
        np.arange(N_ROWS) // 3,
        Ragged.of([row[:-1] for row in rows]),
        np.array([row[-1] for row in rows], np.int32),
        np.arange(N_ROWS) * 86400,
    )
    return Toy(train, exam(N_QUERIES), exam(N_QUERIES).queries)


_WORDS = (
    "Road River Garden Winter Island Letter Mirror Harbour Glass Stone Salt Amber Smoke".split()
)


def variants(name: str) -> list[tuple[str | None, str | None]]:
    """Pairs (loss, decoder) of a method that cover each loss and each decoder once."""
    method: type[Method] = methods.get(name)
    some_losses: list[str | None] = [*losses_of(method)] or [None]
    if not method.decodes:
        return [(loss, None) for loss in some_losses]
    pairs = [(loss, "beam") for loss in some_losses]
    others = [name for name in decoders if name != "beam" and name not in method.not_decoded_by]
    return [*pairs, *((method.default_loss, decoder) for decoder in others)]


def examine(name: str, loss: str | None = None, decoder: str | None = None) -> Iterator[Finding]:
    """Fit a registered method on toy data and check the contract, question by question.

    Args:
        name: of the method.
        loss: one of those it takes; None for its default.
        decoder: a registered decoder; None for its default.

    Raises:
        Unavailable: this machine lacks what the method needs.
    """
    toy = toy_data()
    with tempfile.TemporaryDirectory() as folder:
        lab = _Lab(name, loss, decoder, toy, Path(folder))
        yield _asked("declares a version, a whole number from 1", lambda: _version(lab.kind))
        yield _asked("refuses a config key it does not know", lab.refuses_unknown_keys)
        yield _asked("fits", lab.fit)
        if lab.method is None or lab.method.family == "stage":
            return
        for question, check in lab.questions().items():
            yield _asked(question, check)


def examine_component(kind: type[Component]) -> Iterator[Finding]:
    """Check the contract of a registered loss or decoder, question by question.

    Raises:
        Unavailable: this machine lacks what it needs.
    """
    yield _asked("declares a version, a whole number from 1", lambda: _version(kind))
    if issubclass(kind, Loss):
        known = get_args(Kind)
        here = getattr(kind, "kind", None)
        yield _asked("is of a known kind", lambda: None if here in known else f"{here!r}")
    if not kind.contract:
        yield Finding(
            "says what its contract is", False, "derive it from the base class of its kind"
        )
        return
    for question, check in importlib.import_module(kind.contract).questions(kind).items():
        yield _asked(question, check)


def _version(kind: type[Component] | type[Method]) -> str | None:
    version = kind.version
    return None if type(version) is int and version >= 1 else f"its version is {version!r}"


def _asked(question: str, check: Callable[[], str | None]) -> Finding:
    try:
        seen = check()
    except Unavailable:
        raise
    except Exception as fault:  # whatever a method under test does is a finding, not our crash
        said = one_line(without_secrets(f"{type(fault).__name__}: {fault}"))
        return Finding(question, False, said)
    return Finding(question, not seen, seen or "")


class _Lab:
    """Fits a method on toy data and keeps what the checks compare."""

    def __init__(
        self, name: str, loss: str | None, decoder: str | None, toy: Toy, folder: Path
    ) -> None:
        self.kind: type[Method] = methods.get(name)
        self.loss, self.decoder, self.toy, self.folder = loss, decoder, toy, folder
        self.method: Method | None = None
        self._first: Ranking | None = None
        self._needs: list[tuple[Need, Path]] = []

    @property
    def first(self) -> Ranking:
        """The lists that the others are compared with."""
        if self._first is None:
            raise ContractError("it gave no lists to compare with")
        return self._first

    def questions(self) -> Mapping[str, Callable[[], str | None]]:
        return {
            f"gives {LIST} distinct known items a query, best first": self.lists,
            "does not depend on the order of the queries": self.order,
            "gives a query the same list whatever else is asked": self.some,
            f"begins a list of {LONGER} with that of {LIST}": self.longer,
            "gives the same lists under the same seed": self.again,
            "recommends the same after save and load": self.saved,
            "leaves its inputs as they were": self.untouched,
        }

    def build(self, name: str | None = None, need: Need | None = None) -> Method:
        kind: type[Method] = methods.get(name) if name else self.kind
        toy = dict(kind.toy)
        backbone = toy.pop("backbone", None)
        loss = need.loss if need else self.loss
        loss = loss or kind.default_loss
        decoder = "beam" if need and kind.decodes else self.decoder
        values = {**(need.config if need else {}), **toy}
        config = kind.complete(configure(kind, values), loss=loss, decoder=decoder)
        return kind(config, loss=loss, decoder=decoder, backbone=backbone)

    def fitted(self, method: Method, place: Path) -> Method:
        """The method fitted, and before it everything that it needs."""
        needs = method.needs(method.config, loss=method.loss, backbone=method.backbone)
        inputs = {name: self.made(need, place / name) for name, need in needs.items()}
        scratch = place / "scratch"
        scratch.mkdir(parents=True)
        run = Run(seed=SEED, device="cpu", folder=scratch, inputs=inputs)
        method.fit(self.toy.train, self.toy.valid, run)
        return method

    def made(self, need: Need, place: Path) -> Path:
        """Where the fitted method behind a need is kept; one that is there is not fitted again."""
        for kept, model in self._needs:
            if kept == need:
                return model
        keep(self.fitted(self.build(need.method, need), place), place / "model")
        self._needs.append((need, place / "model"))
        return place / "model"

    def lists_of(self, method: Method, queries: Queries | None = None) -> Ranking:
        queries = queries or self.toy.queries
        ranking = method.recommend(queries, LIST)
        check_ranking(ranking, queries, LIST, N_ITEMS)
        return ranking

    def refuses_unknown_keys(self) -> str | None:
        try:
            configure(self.kind, {"no_such_key": 1})
        except (ConfigError, BenchError):
            return None
        return "it accepted no_such_key"

    def fit(self) -> str | None:
        self.method = self.fitted(self.build(), self.folder / "first")
        return None

    def _ready(self) -> Method:
        if self.method is None:
            raise ContractError("it was never fitted")
        return self.method

    def lists(self) -> str | None:
        self._first = self.lists_of(self._ready())
        if self.first.tail is not None:
            return None  # chance fills what is not listed
        least = 1 if self.kind.family == "floor" else LIST  # a floor may know of few successors
        length_Q = (self.first.item_QK > 0).sum(1)
        if self.first.failed_Q is not None:
            length_Q = np.where(self.first.failed_Q, LIST, length_Q)
        short = np.flatnonzero(length_Q < least)
        if not len(short):
            return None
        where = f"{len(short)} of {len(length_Q)} lists, first query {short[0]}"
        return f"fewer than {least} items in {where}, and failed_Q does not say so"

    def order(self) -> str | None:
        turned = np.arange(len(self.toy.queries))[::-1].copy()
        back = self.lists_of(self._ready(), self.toy.queries.take(turned)).item_QK[turned]
        return _differ(self.first.item_QK, back)

    def some(self) -> str | None:
        few = np.arange(3, len(self.toy.queries), 7)
        back = self.lists_of(self._ready(), self.toy.queries.take(few)).item_QK
        return _differ(self.first.item_QK[few], back)

    def longer(self) -> str | None:
        ranking = self._ready().recommend(self.toy.queries, LONGER)
        check_ranking(ranking, self.toy.queries, LONGER, N_ITEMS)
        return _differ(self.first.item_QK, ranking.item_QK[:, :LIST])

    def again(self) -> str | None:
        twin = self.fitted(self.build(), self.folder / "again")
        return _differ(self.first.item_QK, self.lists_of(twin).item_QK)

    def saved(self) -> str | None:
        keep(self._ready(), self.folder / "kept")
        back = restore(self.folder / "kept", device="cpu")
        return _differ(self.first.item_QK, self.lists_of(back).item_QK)

    def untouched(self) -> str | None:
        given, fresh = dict(_arrays(self.toy)), dict(_arrays(toy_data()))
        written = [name for name in fresh if not np.array_equal(given[name], fresh[name])]
        return f"it wrote to {', '.join(written)}" if written else None


def _arrays(thing: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every array in a nest of dataclasses, with the path to it."""
    if is_dataclass(thing):
        for part in fields(thing):
            yield from _arrays(getattr(thing, part.name), f"{name}.{part.name}".lstrip("."))
    elif isinstance(thing, np.ndarray):
        yield name, thing


def _differ(one: Any, two: Any) -> str | None:
    if np.array_equal(one, two):
        return None
    bad = np.flatnonzero((one != two).any(1))
    return (
        f"{len(bad)} of {len(one)} lists differ, first query {bad[0]}: {one[bad[0]]} {two[bad[0]]}"
    )
