"""Runs one cell from data to row: the only file that knows the order of these steps.

Load the data, fit, recommend, check the lists, compute positions and strata, write the row. Fit and recommend
are measured apart. The fitted method is saved first, so a cell that is killed later does not train again.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import Cell, Row
from bench.disk.storage import storage_fault
from bench.errors import BenchError, DamagedError, Unavailable
from bench.evaluation.checks import proven
from bench.evaluation.lists import top_lists
from bench.evaluation.positions import positions
from bench.evaluation.strata import strata
from bench.execution.faults import Starved, log_trace, memory_of, sentence
from bench.execution.fitting import Fitting, read_bill
from bench.execution.meter import Meter
from bench.execution.status import Status
from bench.execution.team import SOLO, Team
from bench.execution.untouched import Untouched
from bench.execution.work import Surroundings, Work, family
from bench.experiment.forecast.size import size_of, to_note
from bench.registry import load_plugins
from bench.results.packed import Packed
from bench.results.provenance import now, provenance
from bench.results.source_hash import code_of
from bench.results.storable import check_readable
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
        DamagedError: what the cell needs is not as it was written; it has to be made again first.
    """
    if where.seen is not None and (answer := where.store.answered_since(cell, where.seen)):
        return answer
    load_plugins(where.plugins)
    began = time.monotonic()
    # now, as the tree may be at another commit by the end of a long fit
    place = {**provenance(threads=where.threads, device=where.device), "code": _code(cell)}
    if where.ask.ranks > 1:
        place["ranks"] = where.ask.ranks
    attempt = Attempt(cell, where, team, Meter(team.bills))
    if where.fresh:
        attempt.fitting.forget()
    row, packed = _row_of(attempt)
    facts = {"family": family(cell), **row.facts}
    took = _took(attempt, time.monotonic() - began) if row.status == "done" else {}
    row = replace(row, facts=facts, provenance={**place, **took, "date": now()})
    stage = facts["family"] == "stage"
    where.store.write(row, stage=stage, pack=packed.save if packed else None)
    if row.status == "done":
        where.store.forget_scratch(cell.key)
    return row


def _took(attempt: Attempt, seconds: float) -> dict[str, Any]:
    """What a finished cell took beside what was foretold, and its size, to foretell others by."""
    where = attempt.where
    facts: dict[str, Any] = {
        "wall_seconds": seconds,
        "disk_bytes": where.store.kept_bytes(attempt.cell.key),
        "size": to_note(size_of(attempt.cell, where.data_root)),
    }
    if where.predicted is not None:
        facts["predicted_seconds"] = list(where.predicted)
    return facts


def _row_of(attempt: Attempt) -> tuple[Row, Packed | None]:
    """The cell's row, of a fault too, so that one broken cell never ends a run."""
    cell, where = attempt.cell, attempt.where
    try:
        row, packed = _fit_and_examine(attempt)
        check_readable(row)
    except DamagedError:
        raise
    except Exception as own:
        fault = attempt.team.cause(own)
    else:
        return row, packed
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
        train, exam = work.lessons
        inputs = Untouched(train=train, valid=exam)
        attempt.fitting.run(work.method, work.fit, work.run.facts, inputs)
    bill = read_bill(attempt.folder)
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
        inputs = Untouched(queries=exams[phase].queries)
        with attempt.meter.phase(phase):
            rankings[phase] = work.recommend(phase)
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
