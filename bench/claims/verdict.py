"""One published number against one of ours: an equivalence test, and what forbids the word "reproduced".

The numeric outcome and the question whether the protocols agree are kept apart and shown side by side. On
the same test file users and titles are shared and only fits differ, so d = log ours - log theirs has
``se² = c² / S + c'²``: c is what one fit's mean varies by, pooled over the table, S our seeds, c' the
deviation of Table 3 where it prints one, else c. On other rows the variance over users and titles of both is
added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from bench.cell import Cell
from bench.claims.feasible import infeasible
from bench.claims.matching import departures
from bench.claims.named import margin_of
from bench.claims.paper import Claim, read, standard_error
from bench.results.badges import voiding
from bench.significance.equivalence import equivalence

Outcome = Literal["same", "lower", "higher", "inconclusive"]
Word = Literal[
    "reproduced",
    "same value under another protocol",
    "inconclusive",
    "lower",
    "higher",
    "depends on",
    "not run",
]
OUTCOMES: Mapping[str, Outcome] = {
    "reproduced": "same",
    "close": "same",
    "lower": "lower",
    "higher": "higher",
    "undecided": "inconclusive",
}


@dataclass(frozen=True)
class Ours:
    """Our side of a comparison: one metric of one configuration, and what it may be off by.

    Attributes:
        cell: of the first seed.
        n: test rows.
        mean, low, high: over seeds, with its 95 % interval over users, titles and fits.
        fit_cv: c, standard deviation of one fit's mean on these rows as a share of the mean.
        row_cv: standard error from users and titles as a share of the mean.
        widening: variance over users and titles, divided by that over independent rows.
        by_seed: the metric of each seed.
        badges: facts that a reader should know.
        fit: hash of what was found; lines of one fit are one line.
    """

    cell: Cell
    n: int
    mean: float
    low: float
    high: float
    fit_cv: float
    row_cv: float = 0.0
    widening: float = 1.0
    by_seed: tuple[float, ...] = ()
    badges: tuple[str, ...] = ()
    fit: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of one claim, or how one of our lines compares with it.

    Attributes:
        claim: the published number.
        word: the verdict.
        ours: our number, None if it was not run.
        outcome: of the equivalence test.
        within: D, the margin.
        differs: in what our protocol departs from the paper's, one phrase each.
    """

    claim: Claim
    word: Word
    ours: Ours | None = None
    outcome: Outcome = "inconclusive"
    within: float = 0.0
    differs: tuple[str, ...] = ()

    @property
    def badges(self) -> tuple[str, ...]:
        """Of our line, and of the published row where no ranks give it."""
        cannot_be = self.claim.table == "table5" and self.claim.where in _infeasible()
        own = self.ours.badges if self.ours else ()
        return (*own, *(("the published row cannot be",) if cannot_be else ()))

    @property
    def text(self) -> str:
        """``lower`` or ``lower; protocol differs: scale embedded; badges: truncated histories``."""
        said: list[str] = [self.word]
        if self.differs:
            said.append(f"protocol differs: {', '.join(self.differs)}")
        if self.badges:
            said.append(f"badges: {', '.join(self.badges)}")
        return "; ".join(said)


def judge(claim: Claim, ours: Ours | None, strays: tuple[str, ...] = ()) -> Verdict:
    """Compare one published number with one of ours.

    *reproduced*: the 90 % interval of ours / theirs lies inside [1 / D, D] and nothing departs from the
    paper's protocol, nor does a badge void the claim; *same value under another protocol*: the interval does,
    but something departs; *lower* and *higher*: the 95 % interval excludes 1; else *inconclusive*. Half a
    printed unit counts against every word.

    Args:
        claim: the published number.
        ours: our number; None if it was not run.
        strays: departures that the cell does not tell.
    """
    within = margin_of(claim)
    if ours is None:
        return Verdict(claim, "not run", within=within)
    differs = (*strays, *departures(ours.cell, ours.n, claim))
    se, unit = gap_se(claim, ours), 10.0**-claim.digits
    outcome = OUTCOMES[equivalence(ours.mean, claim.value, se, within=within, unit=unit)]
    word: Word
    if outcome != "same":
        word = outcome
    elif differs or voiding(ours.badges):
        word = "same value under another protocol"
    else:
        word = "reproduced"
    return Verdict(claim, word, ours, outcome, within, differs)


def gap_se(claim: Claim, ours: Ours) -> float:
    """Standard error of log ours - log theirs.

    Args:
        claim: the published number.
        ours: our number.
    """
    place = (*claim.where, claim.metric)
    deviation = deviations().get(place)
    theirs = ours.fit_cv if deviation is None else deviation.share
    variance = ours.fit_cv**2 / max(len(ours.by_seed), 1) + theirs**2
    if ours.n != claim.n:
        printed = (standard_error(claim) / claim.value) ** 2 * ours.widening
        variance += ours.row_cv**2 + printed
    return math.sqrt(variance)


@dataclass(frozen=True)
class Deviation:
    """A published deviation of repeated runs.

    Attributes:
        mean, deviation: as printed.
        unit: of the last digit.
    """

    mean: float
    deviation: float
    unit: float

    @property
    def share(self) -> float:
        """Of the mean."""
        return self.deviation / self.mean


@cache
def deviations() -> Mapping[tuple[str, str, str, str], Deviation]:
    """Table 3 by dataset, method, loss and metric."""
    return {
        (row["dataset"], row["method"], row["loss"], row["metric"]): Deviation(
            float(row["mean"]),
            float(row["deviation"]),
            10.0 ** -len(row["deviation"].partition(".")[2]),
        )
        for row in read("table3.csv")
    }


@cache
def _infeasible() -> frozenset[tuple[str, str, str]]:
    return frozenset(infeasible())
