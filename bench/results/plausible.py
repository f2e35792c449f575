"""Whether the numbers of a row can be true: checks beyond shape, for rows of others."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import numpy as np

from bench.cell import CUTOFFS, Row
from bench.evaluation.metrics import RankCounts
from bench.evaluation.strata import strata
from bench.results.figures import VALID, figures_of
from bench.results.packed import Packed
from bench.types import Dataset

ROUNDING = 1e-6  # the most by which a mean that is written may be off
SHARES = ("certified_share", "beam_regret", "beam_agreement", "ats_clamped", "teacher_rows_share")


def implausible(row: Row, packed: Packed) -> Iterator[str]:
    """What cannot be true of a finished row, a sentence each.

    Args:
        row: the row.
        packed: what lies beside it, checked when it was read.
    """
    figures = figures_of(packed)
    for part, counts in figures.counts.items():
        yield from _of_ranks(part, counts)
    if VALID in figures.counts:
        for name, stated in row.valid.items():
            found = figures.mean(name, VALID)
            if found is not None and abs(found - stated) > ROUNDING:
                yield f"valid.{name} is {stated:.6f}, its positions give {found:.6f}"
    yield from _of_facts(row, len(packed))


def _of_ranks(part: str, counts: RankCounts) -> Iterator[str]:
    if not counts.n:
        return
    for k in CUTOFFS:
        hit, ndcg = (counts.mean(f"{metric}@{k}") for metric in ("hit", "ndcg"))
        if not 0 <= ndcg <= hit + ROUNDING <= 1 + 2 * ROUNDING:
            yield f"{part}: Hit@{k} is {hit:.4f}, NDCG@{k} {ndcg:.4f}; 0 <= NDCG <= Hit <= 1"


def _of_facts(row: Row, n: int) -> Iterator[str]:
    for name in SHARES:
        value = row.facts.get(name)
        if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
            yield f"facts.{name} is {value!r}; a share is between 0 and 1"
    failed = row.facts.get("failed_queries")
    if failed is not None and failed > n:
        yield f"facts.failed_queries is {failed:g} of {n} queries"
    seconds = row.cost.get("recommend", {}).get("seconds")
    if not seconds:
        yield "cost.recommend.seconds is missing or 0; an exam takes time"
    date = str(row.provenance.get("date", ""))
    if date > _tomorrow() or not date:
        yield f"provenance.date is {date!r}; a row says when it was made, and not in the future"


def _tomorrow() -> str:
    day = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    return day.strftime("%Y-%m-%dT%H:%M:%SZ")


def against_data(row: Row, packed: Packed, data: Dataset) -> Iterator[str]:
    """What contradicts the dataset at hand: users, targets, warm and cold queries.

    Args:
        row: the row.
        packed: what lies beside it.
        data: its dataset, of the version that the row names.
    """
    exam = data.split.test.sample(row.cell.test_rows)
    if not packed.asks(exam.queries.user_Q):
        yield "its users are not those of the test rows, in their order"
        return
    class_N = exam.queries.catalogue.title_class
    target_Q = class_N[np.asarray(exam.target_Q)]
    if packed.target_Q is not None and not np.array_equal(packed.target_Q, target_Q):
        q = int(np.argmax(packed.target_Q != target_Q))
        yield f"its targets are not those of the test rows; first query {q}"
    if (
        packed.lists is not None
        and int(packed.lists.title_QK.max(initial=0)) > data.catalogue.n_items
    ):
        yield f"its lists name a title that is not among the {data.catalogue.n_items} items"
    for name, mask_Q in strata(exam, data.split).items():
        held = packed.masks.get(name)
        if held is not None and not np.array_equal(held, mask_Q):
            here, there = int(held.sum()), int(mask_Q.sum())
            yield f"its stratum {name} holds {here} queries, not the {there} of the data"
