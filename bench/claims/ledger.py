"""Verdicts: each published number against ours, with the intervals of both.

The numeric verdict and the question whether the protocols agree are kept apart and shown side by side: a
number that was reached under another protocol is still compared, and said to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.cell import HEADLINE, Cell
from bench.claims.paper import (
    BACKBONE,
    CARVED,
    LLM_ROWS,
    LR,
    TEST_ROWS,
    VERSIONS,
    Claim,
    Z,
    claims,
    standard_error,
    table5,
)
from bench.experiment import profiles
from bench.results.table_key import TableKey, names
from bench.significance.kendall import kendall

Word = Literal["reproduced", "within noise", "lower", "higher", "not run"]
TUNED_LR = "msl_tuned_lr"  # no loss of its own: MSL at another learning rate
CLOSE = 0.05  # relative gap up to which a number within noise counts as reproduced


@dataclass(frozen=True)
class Ours:
    """Our number in a comparison: a mean, its standard error, and the cell it is from.

    Attributes:
        valid: NDCG@5 on the rows that choose epochs and configurations (validation; the test rows under
            the released protocol), mean over seeds; nan where there were none.
    """

    cell: Cell
    n: int
    mean: float
    se: float
    low: float
    high: float
    valid: float = math.nan


@dataclass(frozen=True)
class Verdict:
    """What became of one claim.

    Attributes:
        claim: the published number.
        word: result of the numeric comparison, e.g. ``lower``.
        ours: our number, None if it was not run.
        differs: differences between our protocol and the paper's, one phrase each.
    """

    claim: Claim
    word: Word
    ours: Ours | None = None
    differs: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """``lower`` or ``lower; protocol differs: scale embedded``."""
        if not self.differs:
            return self.word
        return f"{self.word}; protocol differs: {', '.join(self.differs)}"


def judge(claim: Claim, ours: Ours | None) -> Verdict:
    """Compare one published number with ours.

    With ``d`` our mean less theirs and ``s`` the root of the summed squares of both standard errors (the
    two are treated as independent, which errs towards "within noise"; theirs is printed, so half a unit
    of the last digit is granted on top): ``|d| > 1.96 s`` is *lower* or *higher*; else *reproduced* if
    ``|d|`` is at most 5 % of theirs, and *within noise* if it is more.

    Args:
        claim: the published number.
        ours: our number; None if the cell was not run.
    """
    if ours is None:
        return Verdict(claim, "not run")
    gap = ours.mean - claim.value
    granted = 0.5 * 10.0**-claim.digits
    noise = Z * float(np.hypot(ours.se, standard_error(claim))) + granted
    word: Word = "within noise"
    if abs(gap) > noise:
        word = "higher" if gap > 0 else "lower"
    elif abs(gap) <= CLOSE * claim.value + granted:
        word = "reproduced"
    return Verdict(claim, word, ours, departures(ours.cell, ours.n, claim))


def departures(cell: Cell, n: int, claim: Claim) -> tuple[str, ...]:
    """How a cell's protocol differs from the paper's, one phrase for each difference.

    Args:
        cell: our cell.
        n: its test rows.
        claim: the published number it is compared with.
    """
    llm = cell.backbone is not None and cell.decoder is not None
    rows = LLM_ROWS if llm else None
    found = {
        # without a language model, small is full: the same data in full, nothing else has a size
        f"scale {cell.scale}": cell.scale != "full"
        and not (cell.scale == "small" and cell.backbone is None),
        f"backbone {cell.backbone}": bool(cell.backbone)
        and BACKBONE not in str(cell.backbone).lower().replace("_", "-"),
        f"protocol {cell.protocol}": cell.protocol != "1",
        f"{_rows(cell.train_rows)} training rows, not {_rows(rows)}": cell.train_rows != rows,
        f"{n} test rows, not {TEST_ROWS[claim.dataset]}": n != TEST_ROWS[claim.dataset],
        "validation cut out of train": claim.dataset in CARVED and not cell.uncut,
        f"decoder {cell.decoder}": cell.decoder not in _released_decoders(cell),
        "temperature not tuned": claim.loss in {"lml_tau", "msl_tau"} and not cell.tune,
    }
    said = [phrase for phrase, true in found.items() if true]
    tuned = {"lr"} if claim.loss == TUNED_LR else set()
    values = (phrase for phrase in profiles.departures(cell) if phrase.split()[0] not in tuned)
    return (*said, *values)


def _released_decoders(cell: Cell) -> set[str | None]:
    """The decoders that the released protocol takes for a loss; ``generate`` is the same as ``beam``."""
    own = profiles.decoders_of(profiles.PAPER, cell.method)(cell.loss)
    return {None, "beam", "generate", *(own or ())}


def _rows(cap: int | None) -> str:
    return "all" if cap is None else f"{cap:,}"


def matches(claim: Claim, cell: Cell) -> bool:
    """Whether a claim is about this cell; a claim without a loss is about any loss of its method.

    Datasets are compared by content: other files under the name of a published dataset do not count.

    Args:
        claim: the published number.
        cell: our cell.
    """
    if (cell.dataset, cell.method) != (claim.dataset, claim.method):
        return False
    if cell.data_version not in VERSIONS[cell.dataset]:
        return False
    # the authors' later figures were scored over valid tokens only, as the corrected profile scores
    loss, _, valid_scores = claim.loss.partition("+")
    if valid_scores and cell.profile != "corrected":
        return False
    if loss == TUNED_LR or (loss == "msl" and cell.loss == loss):
        other_rate = cell.config.get("lr", LR) != LR
        return cell.loss == "msl" and other_rate == (loss == TUNED_LR)
    return not loss or cell.loss == loss


def ledger(ours: Iterable[tuple[Cell, Mapping[str, Ours]]]) -> list[Verdict]:
    """One verdict for every claim and matching configuration, in the order of the tables.

    Args:
        ours: configurations, each with its metrics by name.
    """
    have = list(ours)
    verdicts = []
    for claim in claims():
        found = [m[claim.metric] for cell, m in have if matches(claim, cell) and claim.metric in m]
        verdicts += [judge(claim, one) for one in found] or [judge(claim, None)]
    return verdicts


@dataclass(frozen=True)
class Agreement:
    """How well the order of methods agrees with Table 5 on one dataset, within one board.

    Attributes:
        dataset: with its version where a board has two.
        board: the board as tables name it, then backbone and decoder; nothing is mixed across them.
        methods: how many were compared.
        tau: Kendall's tau-b of NDCG@10; nan below two methods.
        effect: for each backbone method the ratio MSL / LML, ours and theirs.
    """

    dataset: str
    board: str
    methods: int
    tau: float
    effect: Mapping[str, tuple[float, float]]


def agreement(verdicts: Sequence[Verdict]) -> list[Agreement]:
    """Rank agreement per dataset and board over the cells of Table 5 that were run.

    Where several of our configurations stand for one published row (losses of a traditional method, tuned
    ones), the best on validation is compared: one number against one number.
    """
    boards: dict[tuple[TableKey, str], dict[tuple[str, str], Ours]] = {}
    for verdict in verdicts:
        claim, ours = verdict.claim, verdict.ours
        if claim.table != "table5" or claim.metric != HEADLINE or ours is None:
            continue
        found = boards.setdefault((TableKey.of(ours.cell), _llm(ours.cell)), {})
        rival = found.setdefault((claim.method, claim.loss), ours)
        if ours.valid > rival.valid or math.isnan(rival.valid):
            found[claim.method, claim.loss] = ours
    for (table, llm), ours_by in list(boards.items()):
        if llm:  # models without a backbone are compared with those of every backbone
            boards[table, llm] = {**boards.get((table, ""), {}), **ours_by}
    name = names(table for table, _ in boards)
    agreements = [
        Agreement(name[table], f"{table.board}{llm}", len(found), *_against(table.dataset, found))
        for (table, llm), found in boards.items()
    ]
    return sorted(agreements, key=lambda one: (one.dataset, one.board))


def _llm(cell: Cell) -> str:
    """`` [backbone, decoder]``; empty without a backbone."""
    return f" [{', '.join(filter(None, [cell.backbone, cell.decoder]))}]" if cell.backbone else ""


def _against(
    dataset: str, found: Mapping[tuple[str, str], Ours]
) -> tuple[float, dict[str, tuple[float, float]]]:
    """Kendall's tau-b against Table 5 and, by method, the ratio MSL / LML, ours and theirs."""
    ours = {where: one.mean for where, one in found.items()}
    theirs = {(m, loss): table5()[dataset, m, loss][HEADLINE] for m, loss in ours}
    effect = {
        method: (_ratio(ours, method), _ratio(theirs, method))
        for method, loss in ours
        if loss == "msl_ats" and (method, "lml") in ours
    }
    return kendall(list(ours.values()), list(theirs.values())), effect


def _ratio(value: Mapping[tuple[str, str], float], method: str) -> float:
    below = value[method, "lml"]
    return value[method, "msl_ats"] / below if below else float("nan")
