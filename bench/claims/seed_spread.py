"""The spread of our seeds against the deviations that Table 3 prints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats as scipy_stats

from bench.claims.paper import Claim
from bench.claims.verdict import Ours, deviations
from bench.significance.intervals import ALPHA

LEAST_SEEDS = 3


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviations over seeds, as shares of the means.

    Attributes:
        seeds: ours.
        ours, low, high: our deviation and its 95 % interval, for normal seeds.
        theirs: the published one.
        word: ``lower`` or ``higher`` if the interval excludes it whatever its rounding.
    """

    seeds: int
    ours: float
    low: float
    high: float
    theirs: float
    word: Literal["lower", "higher", "inconclusive"]

    @property
    def text(self) -> str:
        """One phrase with the figures in percent."""
        low, high, ours, theirs = (
            f"{100 * x:.1f}" for x in (self.low, self.high, self.ours, self.theirs)
        )
        return (
            f"spread of {self.seeds} seeds {ours} % [{low}, {high}], paper {theirs} %: {self.word}"
        )


def seed_spread(claim: Claim, ours: Ours) -> SeedSpread | None:
    """Compare the spread of seeds; None where the paper prints none or we have fewer than three seeds.

    How many runs stand behind a published deviation is not said; its own uncertainty is left out.

    Args:
        claim: the published number.
        ours: our number.
    """
    published = deviations().get((*claim.where, claim.metric))
    seeds = len(ours.by_seed)
    if published is None or seeds < LEAST_SEEDS or ours.mean <= 0:
        return None
    own = float(np.std(ours.by_seed, ddof=1)) / ours.mean
    ends = scipy_stats.chi2.ppf((1 - ALPHA / 2, ALPHA / 2), seeds - 1)
    low, high = (own * math.sqrt((seeds - 1) / float(end)) for end in ends)
    half = published.unit / 2
    least, most = ((published.deviation + sign * half) / published.mean for sign in (-1, 1))
    word: Literal["lower", "higher", "inconclusive"] = "inconclusive"
    if high < least:
        word = "lower"
    elif low > most:
        word = "higher"
    return SeedSpread(seeds, own, low, high, published.share, word)
