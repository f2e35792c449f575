"""How often the statistics are wrong, on the real users and target titles of a test file.

    python -m speed.calibrate_statistics --dataset book [--families 1000]

Draws families of methods whose truth is known (``simulated_gains``) and prints Markdown lines: the share of
families of 8 and 12 equal methods in which any two are separated, the share of intervals of means and of
differences that hold the truth, and the power to find a method that is 1.4 times as good beside sign flips
on the same rows. One process, about a quarter of an hour for 1,000 families.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from bench.data.published import read_published
from bench.significance.estimate import FEW_TITLES
from bench.significance.intervals import ALPHA
from bench.significance.sign_flip import flip_p
from bench.significance.spread import Scope
from bench.significance.two_way import two_way
from bench.types import FloatArray
from speed.avt import data_folder
from speed.simulated_gains import Design, Family, Structure, seeds_of, true_mean

LUCK = (0.0, 0.05, 0.08)
FLIPS = 1000
Judge = Callable[[Sequence[FloatArray], Structure, float], FloatArray]
"""Gains, rows and the true mean to shares: any of 8 and of 12 methods separated, and so on, as in HEADER."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="book")
    parser.add_argument("--families", type=int, default=1000)
    parser.add_argument("--root", type=Path, default=data_folder())
    options = parser.parse_args()
    structure = structure_of(options.dataset, options.root)
    print(f"### {options.dataset}, {options.families} families\n", flush=True)
    print(HEADER, flush=True)
    for line in equal_lines(structure, options.families, judged):
        print(line, flush=True)
    print(f"\n{POWER_HEADER}", flush=True)
    for line in power_lines(structure, options.families):
        print(line, flush=True)


def structure_of(dataset: str, root: Path) -> Structure:
    """Users and target titles of the test rows."""
    data = read_published(dataset, root)
    test = data.split.test
    return Structure.of(test.queries.user_Q, data.catalogue.title_class[test.target_Q])


HEADER = """\
| design | seeds | luck | 8: any false | 12: any false | one pair | gaps held | means held | means that hang |
|---|---|---|---|---|---|---|---|---|"""


def equal_lines(structure: Structure, families: int, judge: Judge) -> Iterator[str]:
    """One line a kind of family: equal methods, so that every separation is false."""
    for design in get_args(Design):
        for word in ("1", "3", "mixed"):
            for luck in LUCK:
                family = Family(design, seeds_of(word, 12), luck)
                rng = np.random.default_rng([sum(family.seeds), round(100 * luck)])
                truth = true_mean(design, luck)
                found = [
                    judge(structure.draw(rng, family), structure, truth) for _ in range(families)
                ]
                shares = " | ".join(f"{share:.3f}" for share in np.mean(found, axis=0))
                yield f"| {design} | {word} | {luck:g} | {shares} |"


def judged(gain_MSQ: Sequence[FloatArray], structure: Structure, truth: float) -> FloatArray:
    """By the suite's estimator; a family of 8 is the middle of 12, half of each kind of seeds."""
    eight = two_way(gain_MSQ[2:10], structure.user_Q, structure.title_Q)
    twelve = two_way(gain_MSQ, structure.user_Q, structure.title_Q)
    gap_MM = twelve.mean_M[:, None] - twelve.mean_M
    p_MM, pairs = twelve.of_pairs.p(gap_MM), np.triu_indices(len(gain_MSQ), 1)
    off_M = np.abs(np.log(np.maximum(twelve.mean_M, 1e-9) / truth))
    return np.array(
        [
            (eight.ranks().first_M > 1).any(),
            (twelve.ranks().first_M > 1).any(),
            p_MM[0, 1] < ALPHA and twelve.difference(0, 1).p < ALPHA,
            (p_MM[pairs] >= ALPHA).mean(),
            (off_M <= twelve.of_means.reach(ALPHA) / twelve.mean_M).mean(),
            (twelve.of_means.few_titles < FEW_TITLES).mean(),
        ]
    )


POWER_HEADER = """\
| design | seeds | luck | speaks of | true gap | found | flips of users | flips of titles |
|---|---|---|---|---|---|---|---|"""
POWER: tuple[tuple[Design, str, float, Scope], ...] = (
    ("shared", "1", 0.0, "this fit"),
    ("shared", "1", 0.0, "targets like these"),
    ("shared", "3", 0.0, "targets like these"),
    ("shared", "3", 0.05, "targets like these"),
    ("titles", "1", 0.0, "targets like these"),
    ("titles", "3", 0.05, "targets like these"),
)


def power_lines(structure: Structure, families: int) -> Iterator[str]:
    """One line a kind of pair: how often the better of two methods is found."""
    for design, word, luck, scope in POWER:
        for better in (1.0, 1.4):
            family = replace(Family(design, seeds_of(word, 2), luck), better=better)
            rng = np.random.default_rng(round(10 * better) + round(100 * luck))
            found = np.mean(
                [_found(structure.draw(rng, family), structure, scope) for _ in range(families)],
                axis=0,
            )
            shares = " | ".join(f"{share:.3f}" for share in found)
            yield f"| {design} | {word} | {luck:g} | {scope} | {better - 1:.0%} | {shares} |"


def _found(gain_MSQ: Sequence[FloatArray], structure: Structure, scope: Scope) -> FloatArray:
    estimate = two_way(gain_MSQ, structure.user_Q, structure.title_Q).within(scope)
    assert estimate.title_TM is not None, "the structure has titles"
    flips = [flip_p(t, [(0, 1)], FLIPS)[0][0] for t in (estimate.user_UM, estimate.title_TM)]
    return np.array([estimate.difference(0, 1).p, *flips]) < ALPHA


if __name__ == "__main__":
    main()
