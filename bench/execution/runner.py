"""Runs one cell from data to row: the only file that knows the order of these steps.

Load the data, fit, recommend, check the lists, compute positions and strata, write the row. Fit and recommend
are measured apart. The fitted method is saved first, so a cell that is killed later does not train again.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import Cell, K, Row, Run
from bench.data.exams import first_seen
from bench.data.load import load_dataset
from bench.disk.storage import storage_fault
from bench.errors import BenchError, DamagedError, DataError, Unavailable
from bench.evaluation.candidates import KNOWN, recommend_known
from bench.evaluation.checks import check_ranking, proven
from bench.evaluation.lists import top_lists
from bench.evaluation.positions import positions
from bench.evaluation.strata import strata
from bench.execution.faults import log_trace, sentence
from bench.execution.fitting import Fitting, read_bill, upstream_seconds
from bench.execution.meter import Meter
from bench.execution.status import Status
from bench.execution.untouched import Untouched
from bench.method import Method, assign, configure
from bench.registry import load_plugins, methods
from bench.results.identity import declared
from bench.results.packed import Packed
from bench.results.provenance import now, provenance
from bench.results.source_hash import code_of, libraries
from bench.results.storable import check_readable
from bench.results.store import Store
from bench.types import Dataset, Exam, Queries, Ranking


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a cell runs; picklable, so that it can be handed to another process.

    Attributes:
        store: where rows and artefacts go.
        data_root: where datasets are, None for the default.
        plugins: files to import first.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads this cell may use.
        needs: by name, the folders of the fitted methods that the cell needs.
        fresh: fit again, whatever an earlier attempt has left.
        seen: ``Store.stamp`` of the cell at the time of the plan. If the stamp has changed since, another
            process has run the cell in the meantime, and its row is returned. None to run in any case.
        microscope: how often a training is looked at, see ``Run``.
    """

    store: Store
    data_root: Path | None = None
    plugins: tuple[str, ...] = ()
    device: str = "cpu"
    threads: int = 1
    needs: dict[str, Path] = field(default_factory=dict)
    fresh: bool = False
    seen: str | None = None
    microscope: int | None = None


@dataclass(frozen=True)
class Attempt:
    """One attempt at running a cell, with what all of its steps use."""

    cell: Cell
    where: Surroundings
    meter: Meter = field(default_factory=Meter)

    @cached_property
    def status(self) -> Status:
        """The writer of the cell's status file."""
        return Status(self.folder / "status.json")

    @cached_property
    def fitting(self) -> Fitting:
        """Fits the cell's method, or restores it."""
        return Fitting(self.folder, self.meter)

    def progress(self, done: float, total: float, **numbers: float) -> None:
        """Write the method's progress to the status file and the cost so far to the unfinished bill.

        Args:
            done: how much is done, in any unit.
            total: how much there is, in the same unit.
            **numbers: shown beside it, e.g. ``loss``.
        """
        self.status.report(done, total, **numbers)
        self.fitting.note()

    @property
    def folder(self) -> Path:
        """The cell's folder in the run store."""
        return self.where.store.folder(self.cell.key)


def run_cell(cell: Cell, where: Surroundings) -> Row:
    """Run one cell and write its row, whatever happens short of the process being killed.

    The caller must hold the store's lock on the cell (``Store.claim``).

    Args:
        cell: what is run.
        where: store, data, device and inputs.

    Raises:
        KeyboardInterrupt: passed on; nothing is written.
        StorageError: the disk is full or may not be written; no result of the cell.
        DamagedError: what the cell needs is not as it was written; it has to be made again first.
    """
    if where.seen is not None and (answer := where.store.answered_since(cell, where.seen)):
        return answer
    load_plugins(where.plugins)
    # now, as the tree may be at another commit by the end of a long fit
    place = {**provenance(threads=where.threads, device=where.device), "code": _code(cell)}
    attempt = Attempt(cell, where)
    if where.fresh:
        attempt.fitting.forget()
    # any fault becomes a row with its reason, so that one broken cell never ends a run
    try:
        row, packed = _fit_and_examine(attempt)
        check_readable(row)
    except Unavailable as reason:
        row, packed = Row(cell=cell, status="left out", reason=str(reason)), None
    except DamagedError:
        raise
    except Exception as fault:
        if disk := storage_fault(fault):
            raise disk from fault
        log_trace(where.store.folder(cell.key))
        row = Row(cell=cell, status="failed", reason=sentence(fault), cost=attempt.meter.cost)
        packed = None
    facts = {"family": _family(cell), **row.facts}
    row = replace(row, facts=facts, provenance={**place, "date": now()})
    stage = facts["family"] == "stage"
    where.store.write(row, stage=stage, pack=packed.save if packed else None)
    if row.status == "done":
        where.store.forget_scratch(cell.key)
    return row


def _fit_and_examine(attempt: Attempt) -> tuple[Row, Packed | None]:
    cell, where = attempt.cell, attempt.where
    attempt.status.enter("data")
    dataset = load_dataset(cell.dataset, where.data_root, uncut=cell.uncut)
    _check_unchanged(cell, dataset)
    _seed_everything(cell, where.threads)
    method, run = _build(attempt)
    if cell.select_on == "test":
        run.facts["selected_on"] = "test"
    chosen_on = {"valid": dataset.split.valid, "test": dataset.split.test}[cell.select_on]
    exam = chosen_on.sample(cell.valid_rows if cell.select_on == "valid" else cell.test_rows)
    rows = dataset.split.train.sample(cell.train_rows)
    fit = partial(method.fit, rows, exam, run)
    if earlier := attempt.fitting.restored(where.device):
        method = earlier
    else:
        attempt.status.enter("fit")
        attempt.fitting.run(method, fit, run.facts, Untouched(train=rows, valid=exam))
    bill = read_bill(attempt.folder)
    if method.family == "stage":
        return Row(cell=cell, status="done", cost=attempt.meter.cost, facts=bill["facts"]), None
    return _examine(attempt, method, dataset, bill["facts"])


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


def _build(attempt: Attempt) -> tuple[Method, Run]:
    cell, where = attempt.cell, attempt.where
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
        folder=attempt.folder / "scratch",
        inputs=inputs,
        progress=attempt.progress,
        facts=facts,
        microscope=where.microscope,
    )
    return method, run


def _examine(
    attempt: Attempt, method: Method, dataset: Dataset, facts: dict[str, Any]
) -> tuple[Row, Packed]:
    cell, cost, train = attempt.cell, attempt.meter.cost, dataset.split.train
    exams = {"recommend": dataset.split.test.sample(cell.test_rows)}
    if dataset.split.held_out:
        exams = {"validate": dataset.split.valid.sample(cell.valid_rows), **exams}
    rankings: dict[str, Ranking] = {}
    for phase, exam in exams.items():
        attempt.status.enter(phase)
        inputs = Untouched(queries=exam.queries)
        with attempt.meter.phase(phase):
            rankings[phase] = _recommend(method, exam.queries, cell, dataset)
        inputs.check("recommend")
    test, ranking = exams["recommend"], rankings["recommend"]
    seconds = cost["recommend"]["seconds"] or 0.0
    cost["recommend"]["users_per_second"] = len(test) / max(seconds, 1e-9)
    score = partial(positions, train_count=train.target_count, names=method.identity)
    titles = {p: score(rankings[p], exam, identity="title") for p, exam in exams.items()}
    packed, cut = Packed(
        titles["recommend"],
        score(ranking, test, identity="item"),
        np.asarray(test.queries.user_Q, np.int64),
        strata(test, dataset.split),
        titles.get("validate"),
        dataset.catalogue.title_class[test.target_Q],
        top_lists(ranking, dataset.catalogue, train),
    ).bounded()
    _keep_lists(attempt.where.store, cell, ranking, test)
    proof = proven(ranking) | ({"lists_left_out": cut} if cut else {})
    facts = {**facts, **ranking.facts, **proof}
    return Row(cell=cell, status="done", n=len(test), cost=cost, facts=facts), packed


def _recommend(method: Method, queries: Queries, cell: Cell, dataset: Dataset) -> Ranking:
    n_items = queries.catalogue.n_items
    # an item list may lose entries to shared titles, so it starts out longer than the K that count
    k = min(2 * K if method.identity == "item" else K, n_items)
    if cell.protocol == KNOWN:
        ranking = recommend_known(method, queries, k, first_seen(dataset.split))
    else:
        ranking = method.recommend(queries, k)
    check_ranking(ranking, queries, k, n_items)
    return ranking


def _keep_lists(store: Store, cell: Cell, ranking: Ranking, exam: Exam) -> None:
    lists: dict[str, Any] = {"item_QK": ranking.item_QK.astype(np.int32), "target_Q": exam.target_Q}
    if ranking.score_QK is not None:
        lists["score_QK"] = ranking.score_QK.astype(np.float32)
    store.write_lists(cell.key, lists)


def _seed_everything(cell: Cell, threads: int) -> None:
    """Seed the global random generators as well, for libraries that use them."""
    random.seed(cell.seed)
    np.random.seed(cell.seed)
    # a floor must not be charged the time and memory of a library that it does not use
    used = libraries(cell.method, config=cell.config)
    if _family(cell) != "floor" or "torch" in used or "torch" in sys.modules:
        import torch

        torch.manual_seed(cell.seed)
        torch.set_num_threads(threads)


def _code(cell: Cell) -> str:
    """Hash of the source that runs; empty where it cannot be read."""
    with contextlib.suppress(BenchError, OSError, SyntaxError):
        return code_of(cell.method, loss=cell.loss, decoder=cell.decoder, config=cell.config)
    return ""


def _family(cell: Cell) -> str:
    return str(methods.get(cell.method).family) if cell.method in methods else "unknown"
