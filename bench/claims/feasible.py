"""Can the printed numbers of one row be those of any list of ranks? Bounds between NDCG and Hit.

A target at rank r adds 1 to Hit@k and ``1 / log2(r + 1)`` to NDCG@k for r <= k. Between cutoffs k1 < k2
there are ``H = n (Hit@k2 - Hit@k1)`` hits, a whole number, whose gain ``N = n (NDCG@k2 - NDCG@k1)`` is in
``[H / log2(k2 + 1), H / log2(k1 + 2)]``. Example: at ranks 6 to 10 a hit gains .289 to .356, so 51 hits gain
14.7 at least. Each printed value may be off by half its last digit. A row that no ranks give is flagged and
left as it is printed: a misprint, another number of rows, or metrics of different epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from bench.claims.grim import possible
from bench.claims.paper import TEST_ROWS, claims, table5

DIGITS = 4  # decimals of Table 5
MOST_ROWS = 5000  # beyond 10,000 rows every Hit of four decimals is a fraction of them
SLACK = 1e-9
Range = tuple[float, float]


def feasible(row: Mapping[str, float], n: int, digits: int = DIGITS) -> bool:
    """Whether some ranks of ``n`` targets give a row's Hit and NDCG values at all its cutoffs.

    Args:
        row: metrics by name, ``hit@5``, ``ndcg@5`` ...
        n: test rows.
        digits: decimals they were printed with.
    """
    cutoffs = sorted(int(name.partition("@")[2]) for name in row if name.startswith("hit@"))
    half = 0.5 * 10.0**-digits

    def possible_from(at: int, hits: int, gain: Range) -> bool:
        """Whether the cutoffs from ``at`` on can follow ``hits`` hits whose gain lies in a range."""
        if at == len(cutoffs):
            return True
        k1, k2 = cutoffs[at - 1] if at else 0, cutoffs[at]
        least, most = 1 / math.log2(k2 + 1), 1 / math.log2(k1 + 2)
        low, high = (n * (row[f"ndcg@{k2}"] + sign * half) for sign in (-1, 1))
        for total in _whole(n * (row[f"hit@{k2}"] - half), n * (row[f"hit@{k2}"] + half)):
            more = total - hits
            found = max(low, gain[0] + least * more), min(high, gain[1] + most * more)
            if more >= 0 and found[0] <= found[1] + SLACK and possible_from(at + 1, total, found):
                return True
        return False

    return possible_from(0, 0, (0.0, 0.0))


def infeasible() -> list[tuple[str, str, str]]:
    """Dataset, method and loss of the rows of Table 5 that no ranks give."""
    return [where for where, row in table5().items() if not feasible(row, TEST_ROWS[where[0]])]


def sizes(dataset: str, most: int = MOST_ROWS) -> tuple[list[int], int, int]:
    """The numbers of test rows that fit a dataset's Hit values best: they, how many values fit, of how many.

    Several may fit; the values alone do not tell which one was used.

    Args:
        dataset: one of the paper's.
        most: largest number that is tried.
    """
    printed = [
        claim
        for claim in claims()
        if (claim.table, claim.dataset) == ("table5", dataset) and claim.metric.startswith("hit")
    ]
    fits = {n: sum(possible(c.value, c.digits, n) for c in printed) for n in range(1, most + 1)}
    best = max(fits.values())
    return [n for n, number in fits.items() if number == best], best, len(printed)


def _whole(low: float, high: float) -> Iterator[int]:
    yield from range(max(math.ceil(low - SLACK), 0), math.floor(high + SLACK) + 1)
