"""Runs one cell from data to row: the only file that knows the order of these steps.

Load the data, fit, recommend, check the lists, compute positions and strata, write the row. Fit and recommend
are measured apart. The fitted method is saved first, so a cell that is killed later does not train again.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import Cell, Row
from bench.errors import BenchError, Unavailable
from bench.evaluation.lists import top_lists
from bench.evaluation.positions import positions
from bench.evaluation.strata import strata
from bench.execution.faults import Starved, log_trace, memory_of, sentence
from bench.execution.fitting import Fitting
from bench.execution.meter import Meter
from bench.execution.status import Status
from bench.execution.team import SOLO, Team
from bench.execution.work import Surroundings, Work, family
from bench.registry import load_plugins
from bench.results.packed import Packed
from bench.results.provenance import now, provenance
from bench.results.source_hash import code_of
from bench.results.storage import storage_fault
from bench.results.store import Store
from bench.types import Exam, Ranking


@dataclass(frozen=True)
class Attempt:
    """One attempt at running a cell, with what all of its steps use."""

    cell: Cell
    where: Surroundings
    team: Team
    meter: Meter

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


def run_cell(cell: Cell, where: Surroundings, team: Team = SOLO) -> Row:
    """Run one cell and write its row, whatever happens short of the process being killed.

    The caller must hold the store's lock on the cell (``Store.claim``).

    Args:
        cell: what is run.
        where: store, data, device and inputs.
        team: the cell's other ranks.

    Raises:
        KeyboardInterrupt: passed on; nothing is written.
        Starved: it ran out of memory that other cells may have been using; no result of the cell.
        StorageError: the disk is full or may not be written; no result of the cell.
    """
    if where.seen is not None and (answer := where.store.answered_since(cell, where.seen)):
        return answer
    load_plugins(where.plugins)
    # now, as the tree may be at another commit by the end of a long fit
    place = {**provenance(threads=where.threads, device=where.device), "code": _code(cell)}
    if where.ask.ranks > 1:
        place["ranks"] = where.ask.ranks
    attempt = Attempt(cell, where, team, Meter(team.bills))
    if where.fresh:
        attempt.fitting.forget()
    row, packed = _row_of(attempt)
    facts = {"family": family(cell), **row.facts}
    row = replace(row, facts=facts, provenance={**place, "date": now()})
    stage = facts["family"] == "stage"
    where.store.write(row, stage=stage, pack=packed.save if packed else None)
    if row.status == "done":
        where.store.forget_scratch(cell.key)
    return row


def _row_of(attempt: Attempt) -> tuple[Row, Packed | None]:
    """The cell's row, of a fault too, so that one broken cell never ends a run."""
    cell, where = attempt.cell, attempt.where
    try:
        return _fit_and_examine(attempt)
    except Exception as own:
        fault = attempt.team.cause(own)
    if (memory := memory_of(fault)) in where.shares:
        raise Starved(sentence(fault), memory) from fault
    if isinstance(fault, Unavailable):
        return Row(cell=cell, status="left out", reason=str(fault)), None
    if disk := storage_fault(fault):
        raise disk from fault
    log_trace(where.store.folder(cell.key), fault)
    return Row(cell=cell, status="failed", reason=sentence(fault), cost=attempt.meter.cost), None


def _fit_and_examine(attempt: Attempt) -> tuple[Row, Packed | None]:
    cell, where, team = attempt.cell, attempt.where, attempt.team
    attempt.status.enter("data")
    team.join(where.device)
    team.tell("begin")
    work = Work.begin(cell, where, attempt.progress)
    if earlier := attempt.fitting.restored(where.device):
        work.method = earlier
        team.tell("restore")
    else:
        attempt.status.enter("fit")
        team.tell("fit")
        attempt.fitting.run(work.method, work.fit, work.run.facts)
    bill = json.loads(attempt.fitting.bill.read_text(encoding="utf-8"))
    if work.method.family == "stage":
        return Row(cell=cell, status="done", cost=attempt.meter.cost, facts=bill["facts"]), None
    return _examine(attempt, work, bill["facts"])


def _examine(attempt: Attempt, work: Work, facts: dict[str, Any]) -> tuple[Row, Packed]:
    cell, cost, dataset, exams = attempt.cell, attempt.meter.cost, work.dataset, work.exams
    method, train = work.method, dataset.split.train
    rankings: dict[str, Ranking] = {}
    for phase in exams:
        attempt.status.enter(phase)
        attempt.team.tell(f"recommend {phase}")
        with attempt.meter.phase(phase):
            rankings[phase] = work.recommend(phase)
    test, ranking = exams["recommend"], rankings["recommend"]
    seconds = cost["recommend"]["seconds"] or 0.0
    cost["recommend"]["users_per_second"] = len(test) / max(seconds, 1e-9)
    score = partial(positions, train_count=train.target_count, names=method.identity)
    titles = {p: score(rankings[p], exam, identity="title") for p, exam in exams.items()}
    packed, cut = Packed(
        titles["recommend"],
        score(ranking, test, identity="item"),
        np.asarray(test.queries.user_Q, np.int64),
        strata(test, train),
        titles.get("validate"),
        dataset.catalogue.title_class[test.target_Q],
        top_lists(ranking, dataset.catalogue, train),
    ).bounded()
    _keep_lists(attempt.where.store, cell, ranking, test)
    proof = _proof(ranking) | ({"lists_left_out": cut} if cut else {})
    facts = {**facts, **ranking.facts, **proof}
    return Row(cell=cell, status="done", n=len(test), cost=cost, facts=facts), packed


def _proof(ranking: Ranking) -> dict[str, Any]:
    proof: dict[str, Any] = {}
    if ranking.certified_Q is not None:
        proof["certified_share"] = float(np.mean(ranking.certified_Q))
    if ranking.failed_Q is not None:
        proof["failed_queries"] = float(np.sum(ranking.failed_Q))
    return proof


def _keep_lists(store: Store, cell: Cell, ranking: Ranking, exam: Exam) -> None:
    lists: dict[str, Any] = {"item_QK": ranking.item_QK.astype(np.int32), "target_Q": exam.target_Q}
    if ranking.score_QK is not None:
        lists["score_QK"] = ranking.score_QK.astype(np.float32)
    store.write_lists(cell.key, lists)


def _code(cell: Cell) -> str:
    """Hash of the source that runs; empty where it cannot be read."""
    with contextlib.suppress(BenchError, OSError, SyntaxError):
        return code_of(cell.method, loss=cell.loss, decoder=cell.decoder, config=cell.config)
    return ""
