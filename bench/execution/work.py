"""The steps of a cell that all of its ranks take alike: data, method, fit, lists.

A cell has one process, or several that share its work (ranks). The first is commanded by ``runner``, the
others by the first (see ``team``); what they do is here.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import Cell, K, Run
from bench.data.exams import first_seen
from bench.data.load import load_dataset
from bench.errors import DataError
from bench.evaluation.candidates import KNOWN, recommend_known
from bench.evaluation.checks import check_ranking
from bench.execution.asking import ONE, Ask
from bench.execution.fitting import upstream_seconds
from bench.method import Method, assign, configure, restore
from bench.registry import methods
from bench.results.identity import declared
from bench.results.source_hash import libraries
from bench.results.store import Store
from bench.types import Dataset, Exam, Ranking, Windows


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a cell runs; picklable, so that it can be handed to another process.

    Attributes:
        store: where rows and artefacts go.
        data_root: where datasets are, None for the default.
        plugins: files to import first.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads that each process of this cell may use.
        ask: what the cell needs: processes, GPU memory.
        shares: memories that other cells may use at the same time, ``gpu`` and ``host``; a cell that runs
            out of one of them is tried again alone.
        needs: by name, the folders of the fitted methods that the cell needs.
        fresh: fit again, whatever an earlier attempt has left.
        seen: ``Store.stamp`` of the cell at the time of the plan. If the stamp has changed since, another
            process has run the cell in the meantime, and its row is returned. None to run in any case.
        microscope: how often a training is looked at, see ``Run``.
        predicted: seconds that the cell was expected to take, with the interval's ends.
    """

    store: Store
    data_root: Path | None = None
    plugins: tuple[str, ...] = ()
    device: str = "cpu"
    threads: int = 1
    ask: Ask = ONE
    shares: tuple[str, ...] = ()
    needs: dict[str, Path] = field(default_factory=dict)
    fresh: bool = False
    seen: str | None = None
    microscope: int | None = None
    predicted: tuple[float, float, float] | None = None


@dataclass
class Work:
    """One cell in one process: its data, its method and what that is given.

    Attributes:
        exams: by phase, what the fitted method is asked: ``validate`` where rows were held out, and
            ``recommend``, the test.
    """

    cell: Cell
    where: Surroundings
    dataset: Dataset
    method: Method
    run: Run

    @classmethod
    def begin(cls, cell: Cell, where: Surroundings, progress: Callable[..., None]) -> Work:
        """Load the data and build the method.

        Args:
            cell: what is run.
            where: store, data, device and inputs.
            progress: hears of the method's progress.

        Raises:
            DataError: data, versions or models are not what the cell declares.
        """
        dataset = load_dataset(cell.dataset, where.data_root, uncut=cell.uncut)
        _check_unchanged(cell, dataset)
        _seed_everything(cell, where.threads)
        method, run = _build(cell, where, progress)
        if cell.select_on == "test":
            run.facts["selected_on"] = "test"
        return cls(cell, where, dataset, method, run)

    @cached_property
    def lessons(self) -> tuple[Windows, Exam]:
        """The training rows, and the exam that chooses the epoch."""
        cell, split = self.cell, self.dataset.split
        chosen_on = {"valid": split.valid, "test": split.test}[cell.select_on]
        cap = cell.valid_rows if cell.select_on == "valid" else cell.test_rows
        return split.train.sample(cell.train_rows), chosen_on.sample(cap)

    @cached_property
    def exams(self) -> dict[str, Exam]:
        """What the fitted method is asked, by phase."""
        cell, split = self.cell, self.dataset.split
        exams = {"recommend": split.test.sample(cell.test_rows)}
        if split.held_out:
            exams = {"validate": split.valid.sample(cell.valid_rows), **exams}
        return exams

    def fit(self) -> None:
        """Fit the method."""
        self.method.fit(*self.lessons, self.run)

    def restore(self) -> None:
        """Take the method that an earlier attempt has fitted."""
        model = self.where.store.folder(self.cell.key) / "model"
        self.method = restore(model, device=self.where.device)

    def recommend(self, phase: str) -> Ranking:
        """Checked lists for an exam."""
        queries, n_items = self.exams[phase].queries, self.dataset.catalogue.n_items
        # an item list may lose entries to shared titles, so it starts out longer than the K that count
        k = min(2 * K if self.method.identity == "item" else K, n_items)
        if self.cell.protocol == KNOWN:
            ranking = recommend_known(self.method, queries, k, first_seen(self.dataset.split))
        else:
            ranking = self.method.recommend(queries, k)
        check_ranking(ranking, queries, k, n_items)
        return ranking


def _check_unchanged(cell: Cell, dataset: Dataset) -> None:
    """Raise DataError if data, versions or models have changed since the cell got its key."""
    axes = {"loss": cell.loss, "decoder": cell.decoder, "backbone": cell.backbone}
    now = declared(cell.method, **axes, config=cell.config)
    same = {
        cell.dataset: dataset.version == cell.data_version,
        f"the version of {cell.method} or of its axes": now.versions == cell.versions,
        f"a file or model of {cell.method}": now.contents == cell.contents,
    }
    for what, unchanged in same.items():
        if not unchanged:
            raise DataError(f"{what} changed on disk since the plan was made; plan again")


def _build(cell: Cell, where: Surroundings, progress: Callable[..., None]) -> tuple[Method, Run]:
    kind: type[Method] = methods.get(cell.method)
    config = dict(cell.config)
    upstream = upstream_seconds(where.needs.values())
    facts: dict[str, Any] = {"upstream": upstream, "upstream_seconds": sum(upstream.values())}
    inputs = dict(where.needs)
    if tuning := inputs.pop("tuning", None):
        best = json.loads((tuning / "best.json").read_text(encoding="utf-8"))["config"]
        config, facts["tuned"] = assign(config, best), best
    given = configure(kind, config, stored=True)
    method = kind(given, loss=cell.loss, decoder=cell.decoder, backbone=cell.backbone)
    run = Run(
        seed=cell.seed,
        device=where.device,
        folder=where.store.folder(cell.key) / "scratch",
        inputs=inputs,
        progress=progress,
        facts=facts,
        microscope=where.microscope,
    )
    return method, run


def _seed_everything(cell: Cell, threads: int) -> None:
    """Seed the global random generators as well, for libraries that use them."""
    random.seed(cell.seed)
    np.random.seed(cell.seed)
    # a floor must not be charged the time and memory of a library that it does not use
    used = libraries(cell.method, config=cell.config)
    if family(cell) != "floor" or "torch" in used or "torch" in sys.modules:
        import torch

        torch.manual_seed(cell.seed)
        torch.set_num_threads(threads)


def family(cell: Cell) -> str:
    """The family of a cell's method."""
    return str(methods.get(cell.method).family) if cell.method in methods else "unknown"
