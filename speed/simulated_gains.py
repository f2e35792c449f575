"""Gains of simulated methods on the real users and target titles of a test file.

The chance of a hit is ``min(1, rate a_u e_r b_t b_mt a_mu exp(luck N))`` with factors of mean 1: of the user,
the row, the title, the method's liking for the title and for the user, and the fit. Under ``shared`` methods
differ by chance alone; under ``titles`` each has titles and users of its own that it does well on, which
average out over other titles and users. Half the rows of each fit take their luck from a draw common to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from bench.types import FloatArray, IntArray

Design = Literal["shared", "titles"]
RATE = 0.02
OWN_TITLE, COMMON_USER = 0.3, 0.5  # shapes of the two factors that are not exponential
DISCOUNT = 1 / np.log2(np.arange(10) + 2.0)


@dataclass(frozen=True)
class Family:
    """Methods to be drawn.

    Attributes:
        design: ``shared`` or ``titles``.
        seeds: fits of each method.
        luck: standard deviation of a fit's quality, as a share of it.
        better: how much better the first method truly is; 1 for equal methods.
    """

    design: Design
    seeds: tuple[int, ...]
    luck: float
    better: float = 1.0


@dataclass(frozen=True, eq=False)
class Structure:
    """Whose row it is and what its target is, as positions from 0."""

    user_Q: IntArray
    title_Q: IntArray

    @classmethod
    def of(cls, user_Q: IntArray, title_Q: IntArray) -> Structure:
        """From any labels."""
        return cls(*(np.unique(label_Q, return_inverse=True)[1] for label_Q in (user_Q, title_Q)))

    def draw(self, rng: np.random.Generator, family: Family) -> list[FloatArray]:
        """Gains of every method, float [S, Q]."""
        n, users, titles = len(self.user_Q), self.user_Q.max() + 1, self.title_Q.max() + 1
        user_U = rng.gamma(COMMON_USER, 1 / COMMON_USER, users)
        common_Q = RATE * user_U[self.user_Q] * rng.exponential(1, n)
        common_Q *= rng.exponential(1, titles)[self.title_Q]
        uniform_Q, rank_Q = rng.random(n), _rank(rng.random(n))
        gains = []
        for m, seeds in enumerate(family.seeds):
            hit_Q = common_Q * (family.better if m == 0 else 1.0)
            if family.design == "titles":
                hit_Q = hit_Q * rng.gamma(OWN_TITLE, 1 / OWN_TITLE, titles)[self.title_Q]
                hit_Q *= rng.exponential(1, users)[self.user_Q]
            fit_SQ = hit_Q * np.exp(family.luck * rng.standard_normal((seeds, 1)))
            own_SQ = rng.integers(0, 2, (seeds, n), bool)
            luck_SQ = np.where(own_SQ, rng.random((seeds, n)), uniform_Q)
            hit_s, hit_q = np.nonzero(luck_SQ < fit_SQ)
            place = np.where(own_SQ[hit_s, hit_q], _rank(rng.random(len(hit_q))), rank_Q[hit_q])
            gain_SQ = np.zeros((seeds, n))
            gain_SQ[hit_s, hit_q] = DISCOUNT[place]
            gains.append(gain_SQ)
        return gains


def _rank(uniform: FloatArray) -> IntArray:
    return np.minimum(10 * uniform**1.3, 9).astype(np.int64)


@lru_cache
def true_mean(design: Design, luck: float, batches: int = 5) -> float:
    """What an equal method gains on average over users, titles and fits; a million draws a batch."""
    rng, found, batch = np.random.default_rng(0), [], 1_000_000
    for _ in range(batches):
        hit = RATE * rng.gamma(COMMON_USER, 1 / COMMON_USER, batch)
        hit *= rng.exponential(1, batch) * rng.exponential(1, batch)
        if design == "titles":
            hit *= rng.gamma(OWN_TITLE, 1 / OWN_TITLE, batch) * rng.exponential(1, batch)
        hit *= np.exp(luck * rng.standard_normal(batch))
        found.append(np.minimum(hit, 1).mean())
    share = np.diff(np.append((np.arange(10) / 10) ** (1 / 1.3), 1.0))
    return float(np.mean(found) * (share @ DISCOUNT))


def zipf_structure(n: int, users: int, titles: int, seed: int = 0) -> Structure:
    """Rows whose titles are as uneven as those of a shop; for tests without the real files."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(3, titles + 3)
    title_Q = rng.choice(titles, n, p=weight / weight.sum())
    return Structure.of(rng.integers(0, users, n), title_Q)


def seeds_of(word: str, methods: int) -> Sequence[int]:
    """``1``, ``3``, or ``mixed``: half with three, half with one."""
    half = methods // 2
    return [3] * half + [1] * (methods - half) if word == "mixed" else [int(word)] * methods
