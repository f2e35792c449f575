"""What a loss adds to a model: the ratio of two of our lines, against 1 and against the published ratio.

Both lines answer the same rows, so the ratio is tested on the difference of their logarithms: users and
targets that help both cancel, which two verdicts on single numbers would not see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench.cell import HEADLINE
from bench.claims.matching import departures
from bench.claims.named import margin_of
from bench.claims.paper import Claim, claims
from bench.claims.verdict import OUTCOMES, Ours, Outcome, Word, deviations
from bench.results.badges import voiding
from bench.significance.equivalence import equivalence
from bench.significance.intervals import ALPHA, Difference

PLAIN = "lml"  # the loss that the others are held against
Where = tuple[str, str]  # method and published loss
LogRatios = Mapping[tuple[str, str], Difference]
"""Differences of the logarithms of two lines' means by their cells' keys, first over second."""


@dataclass(frozen=True)
class Effect:
    """A loss over LML under one backbone method.

    Attributes:
        method, loss: the method, and the loss that is divided by LML.
        ratio: ours; None where a mean is 0.
        low, high: its 95 % interval.
        p: two-sided, of no effect.
        theirs: the published ratio.
        outcome: ours against theirs, from the equivalence test alone.
        word: the verdict on the published ratio.
        within: margin of that test.
        differs: departures of both lines from the paper's protocol.
    """

    method: str
    loss: str
    ratio: float | None
    low: float
    high: float
    p: float
    theirs: float
    outcome: Outcome
    word: Word
    within: float
    differs: tuple[str, ...]

    @property
    def text(self) -> str:
        """``bigrec MSL_ATS/LML 1.30 [0.90, 1.88], p 0.16 (paper 1.26: inconclusive)``."""
        head = f"{self.method} {self.loss.upper()}/{PLAIN.upper()}"
        if self.ratio is None:
            return f"{head}: a mean of 0 has no ratio (paper {self.theirs:.2f})"
        found = f"{self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}], p {self.p:.2g}"
        return f"{head} {found} (paper {self.theirs:.2f}: {self.word})"


def effects(dataset: str, lines: Mapping[Where, Ours], ratios: LogRatios) -> tuple[Effect, ...]:
    """The effect of every published loss whose line and whose LML line were run.

    Args:
        dataset: that the lines are of, as the paper names it.
        lines: of one board, by method and published loss.
        ratios: of the same lines; a pair that is missing is left out.
    """
    claim = {
        (c.method, c.loss): c
        for c in claims()
        if (c.table, c.dataset, c.metric) == ("table5", dataset, HEADLINE)
    }
    found = []
    for (method, loss), line in lines.items():
        plain = lines.get((method, PLAIN))
        if loss == PLAIN or plain is None:
            continue
        place = (line.cell.key, plain.cell.key)
        pair = (claim[method, loss], claim[method, PLAIN])
        found.append(_effect(pair, (line, plain), ratios.get(place)))
    return tuple(found)


def _effect(pair: tuple[Claim, Claim], ours: tuple[Ours, Ours], found: Difference | None) -> Effect:
    """``pair`` and ``ours`` are the loss and LML."""
    above, below = (claim.value for claim in pair)
    theirs, within = above / below, margin_of(pair[0])
    strays = [departures(one.cell, one.n, claim) for one, claim in zip(ours, pair, strict=True)]
    differs = tuple(dict.fromkeys(phrase for one in strays for phrase in one))
    if found is None:
        none = float("nan")
        return Effect(
            *pair[0].where[1:],
            None,
            none,
            none,
            1.0,
            theirs,
            "inconclusive",
            "inconclusive",
            within,
            differs,
        )
    # both printed values are rounded: half a unit of each may push their ratio the same way
    unit = theirs * sum(10.0**-claim.digits / claim.value for claim in pair)
    ratio, se = math.exp(found.gap), math.sqrt(_variance(pair, ours, found))
    outcome = OUTCOMES[equivalence(ratio, theirs, se, within=within, unit=unit, alpha=ALPHA)]
    word: Word = outcome if outcome != "same" else "reproduced"
    if word == "reproduced" and (differs or any(voiding(one.badges) for one in ours)):
        word = "same value under another protocol"
    ends = math.exp(found.low), math.exp(min(found.high, 700.0))  # e^700 still is a number
    return Effect(*pair[0].where[1:], ratio, *ends, found.p, theirs, outcome, word, within, differs)


def _variance(pair: tuple[Claim, Claim], ours: tuple[Ours, Ours], found: Difference) -> float:
    """Of the difference between our log ratio and theirs: fits of both, and rows where they differ."""
    parts = found.parts
    variance = parts["fits"] + parts["luck"]
    for claim, one in zip(pair, ours, strict=True):
        deviation = deviations().get((*claim.where, claim.metric))
        variance += (one.fit_cv if deviation is None else deviation.share) ** 2
    if ours[0].n != pair[0].n:
        rows = parts["users"] + parts["titles"]
        variance += rows * (1 + ours[0].n / pair[0].n)
    return variance
