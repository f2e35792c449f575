"""The ledger of claims: for every published number the line that was named for it, and those beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.cell import HEADLINE, Cell
from bench.claims.matching import departures, matches
from bench.claims.named import first_of, named
from bench.claims.paper import Claim, claims
from bench.claims.seed_spread import SeedSpread, seed_spread
from bench.claims.verdict import Ours, Verdict, Word, judge

NOT_NAMED = "not the line named for this claim"


@dataclass(frozen=True)
class Finding:
    """One published number and all of ours that stand for it.

    Attributes:
        claim: the published number.
        word: ``depends on`` where the paper is silent, however the forks came out; else of the named line.
        lines: of the named line, or of each fork that was run.
        others: of the lines beside it, one a fit.
        spread: of seeds, where Table 3 prints one and we have three.
    """

    claim: Claim
    word: Word
    lines: tuple[Verdict, ...]
    others: tuple[Verdict, ...] = ()
    spread: SeedSpread | None = None

    @property
    def span(self) -> tuple[float, float] | None:
        """Least and greatest of our means over the forks; None if nothing was run."""
        means = [line.ours.mean for line in self.lines if line.ours is not None]
        return (min(means), max(means)) if means else None

    @property
    def agree(self) -> tuple[int, int]:
        """How many of the other lines are the same within the margin, and how many there are."""
        return sum(line.outcome == "same" for line in self.others), len(self.others)

    @property
    def badges(self) -> tuple[str, ...]:
        """Of its lines."""
        return tuple(dict.fromkeys(badge for line in self.lines for badge in line.badges))


def ledger(ours: Iterable[tuple[Cell, Mapping[str, Ours]]]) -> list[Finding]:
    """One finding for every claim, in the order of the tables.

    Args:
        ours: configurations, each with its metrics by name.
    """
    have = list(ours)
    return [
        settle(claim, [m[claim.metric] for c, m in have if claim.metric in m and matches(claim, c)])
        for claim in claims()
    ]


def settle(claim: Claim, ours: Sequence[Ours]) -> Finding:
    """The verdict on one claim.

    Args:
        claim: the published number.
        ours: all lines that match it.
    """
    lines = _speakers(claim, ours)
    others = tuple(judge(claim, one, (NOT_NAMED,)) for one in _distinct(ours, lines))
    if not lines:
        none = judge(claim, None)
        return Finding(claim, none.word, (none,), others)
    first = [judge(claim, one) for one in lines]
    word: Word = "depends on" if named(claim).silent else first[0].word
    return Finding(claim, word, tuple(first), others, seed_spread(claim, lines[0]))


def speaker(claim: Claim, ours: Sequence[Ours]) -> Ours | None:
    """The line that speaks for a claim; where the paper is silent, that of the first fork that was run.

    Args:
        claim: the published number.
        ours: all lines that match it.
    """
    return next(iter(_speakers(claim, ours)), None)


def line_verdicts(ours: Sequence[Ours]) -> list[Verdict | None]:
    """How each line of a table compares with Table 5's NDCG@10; None if the paper has no such row.

    Only the line that is named for a row can have reproduced it.

    Args:
        ours: the headline metric of the table's lines.
    """
    found: list[Verdict | None] = [None] * len(ours)
    for claim in claims():
        if (claim.table, claim.metric) != ("table5", HEADLINE):
            continue
        at = [m for m, one in enumerate(ours) if matches(claim, one.cell)]
        lines = _speakers(claim, [ours[m] for m in at])
        for m in at:
            spoken = any(ours[m] is line for line in lines)
            found[m] = judge(claim, ours[m], () if spoken else (NOT_NAMED,))
    return found


def _speakers(claim: Claim, ours: Sequence[Ours]) -> list[Ours]:
    """One line for each fork that was run."""
    found = []
    for loss in named(claim).forks:
        run = [one for one in ours if one.cell.loss == loss]
        if run:
            differs = [departures(one.cell, one.n, claim) for one in run]
            found.append(run[first_of(claim, [one.cell for one in run], differs)])
    return found


def _distinct(ours: Sequence[Ours], lines: Sequence[Ours]) -> list[Ours]:
    """The lines beside the named ones, without those of a fit that is there already."""
    seen = {(one.cell.loss, one.cell.decoder, one.fit) for one in lines if one.fit}
    found = []
    for one in ours:
        fit = (one.cell.loss, one.cell.decoder, one.fit)
        if any(one is line for line in lines) or (one.fit and fit in seen):
            continue
        seen.add(fit)
        found.append(one)
    return found
