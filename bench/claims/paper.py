"""The published cells as data, sealed by a checksum, with the intervals they imply.

Source: "MSL: Not All Tokens Are What You Need for Tuning LLM as a Recommender" (SIGIR 2025), Tables 3 to
7, and the later figures of its authors' repository (``upstream_update.csv``). Test sizes are implied by
Table 5 itself: they are the ones its Hit values are fractions of (``bench.claims.grim``).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from bench.errors import ArtefactError
from bench.types import FloatArray

FOLDER = Path(__file__).parent
SEALS: Mapping[str, str] = {
    "table3.csv": "f7032682d2a1e0a2cf62ddd42d9e8304969a0952d372d720cfa3d85a7daf09af",
    "table4.csv": "4f78c7f99560e1eca6c55f5642c743c5f33e10e63a5fc378ed57019db796ebf9",
    "table5.csv": "6ca60550c7ccbe5d207a88f56ef08a66194fef7d8611c2d8b90851d57f097cfd",
    "table6.csv": "27ff9533b28bb5cbc86321b6854a383f902f4fa277eced42ba9cadbad3d21db1",
    "table7.csv": "40a151ea71861fea462daad952961fce0e4b1cededb18d0c2e3741ff1ee4b14b",
    "upstream_update.csv": "3d3da33427ee1ad8caf139feb1eee76ece6f4f7d410af69594c157ceb1724fb4",
}
TEST_ROWS: Mapping[str, int] = {"toy": 4794, "book": 4383, "clothing": 5000, "office": 1925}
# content of the published files as this suite reads them, the second one with validation left in train
VERSIONS: Mapping[str, frozenset[str]] = {
    "toy": frozenset({"9c740a5ae109b68f"}),
    "book": frozenset({"8dc1d64442149f75", "b0efe5f3f9eaa02a"}),
    "clothing": frozenset({"25fb7bbb02934988", "536c44a3ae073572"}),
    "office": frozenset({"0a844de688602e9b"}),
}
CARVED = frozenset({"book"})  # its validation windows are unpublished; ours are cut out of train
LLM_ROWS = 10_000  # training windows of the paper's language models; its other models see all
LR = 1e-4  # the paper's learning rate for language models; another one is its "tuned learning rate"
BACKBONE = "llama-3-8b"  # the paper's language model; a name that contains it counts as it
# the paper's names of table 6 in the names of this suite's losses
LOSS_NAMES: Mapping[str, str] = {
    "lml_tuned_tau": "lml_tau",
    "msl_no_tau": "msl",
    "msl_tuned_tau": "msl_tau",
}
Z = 1.959963984540054


@dataclass(frozen=True)
class Claim:
    """One published number.

    Attributes:
        table: ``table5`` ... or ``upstream_readme``.
        dataset, method, loss: whose; ``loss`` is empty where the paper names none.
        metric: ``ndcg@5`` ...
        value: as printed.
        digits: decimals it was printed with.
    """

    table: str
    dataset: str
    method: str
    loss: str
    metric: str
    value: float
    digits: int

    @property
    def where(self) -> tuple[str, str, str]:
        """Dataset, method and loss."""
        return self.dataset, self.method, self.loss

    @property
    def n(self) -> int:
        """Test rows behind the number."""
        return TEST_ROWS[self.dataset]


def read(name: str) -> list[dict[str, str]]:
    """The rows of one of the sealed files.

    Raises:
        ArtefactError: the file is not what was copied from the paper.
    """
    content = (FOLDER / name).read_bytes().replace(b"\r\n", b"\n")
    if hashlib.sha256(content).hexdigest() != SEALS[name]:
        raise ArtefactError(f"{FOLDER / name} is not as published; restore it from git")
    return list(csv.DictReader(content.decode().splitlines()))


@cache
def claims() -> tuple[Claim, ...]:
    """Every published metric: Table 5, then 3 (means of repeated runs), 6, and the authors' update."""
    found = []
    for name in ("table5.csv", "table3.csv", "table6.csv", "upstream_update.csv"):
        for row in read(name):
            text = row.get("published") or row["mean"]
            loss, plus, scores = row["loss"].partition("+")
            loss = LOSS_NAMES.get(loss, loss) + plus + scores
            digits = len(text.partition(".")[2])
            place = (row["table"], row["dataset"], row["method"], loss, row["metric"])
            found.append(Claim(*place, float(text), digits))
    return tuple(found)


@cache
def table5() -> Mapping[tuple[str, str, str], Mapping[str, float]]:
    """Table 5 by dataset, method and loss: the metrics."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for claim in claims():
        if claim.table == "table5":
            found.setdefault(claim.where, {})[claim.metric] = claim.value
    return found


def published(dataset: str, method: str, loss: str | None) -> Mapping[str, float]:
    """Table 5's metrics for a cell, by name; empty if the table has no such cell.

    Where the paper names no loss (traditional and enhanced methods), any loss of the method matches.

    Args:
        dataset: its registered name.
        method: its registered name.
        loss: its registered name, if the method has one.
    """
    cells = table5()
    return cells.get((dataset, method, loss or ""), cells.get((dataset, method, ""), {}))


def standard_error(claim: Claim) -> float:
    """Standard error of a published mean over ``n`` users, from what was published beside it.

    Hit@k is a binomial share: ``sqrt(h (1 - h) / n)``. For NDCG the ranks are not published, but
    NDCG@5, NDCG@10, Hit@5 and Hit@10 fix the mass and the mean discount of ranks 1-5 and 6-10; the
    distribution of largest entropy with these four values (within each five, ``p_r ~ exp(l d_r)``) gives
    ``E[g^2]``, and ``sqrt((E[g^2] - NDCG^2) / n)`` follows. Where Hit was not published, Table 5's row of
    the same method and loss lends its shape; without one ``g^2 <= g`` bounds the variance from above.
    Seeds are not in it.
    """
    kind, _, cutoff = claim.metric.partition("@")
    value = claim.value
    if kind == "hit":
        return float(np.sqrt(value * (1 - value) / claim.n))
    row = _row_of(claim)
    scale = value / row[claim.metric] if row and row[claim.metric] else 0.0
    square = _second_moment(row, int(cutoff)) * scale if row else value
    return float(np.sqrt(max(square - value**2, 0.0) / claim.n))


def interval(claim: Claim) -> tuple[float, float]:
    """95 % interval of a published mean, sampling of users only."""
    half = Z * standard_error(claim)
    return claim.value - half, claim.value + half


def _row_of(claim: Claim) -> Mapping[str, float]:
    own = {
        other.metric: other.value
        for other in claims()
        if other.table == claim.table and other.where == claim.where
    }
    complete = own if len(own) == 4 else table5().get(claim.where, {})
    return complete


def _second_moment(row: Mapping[str, float], cutoff: int) -> float:
    """E[g^2] of NDCG at 5 or 10 under the distribution of largest entropy."""
    discount = 1 / np.log2(np.arange(10) + 2.0)
    total = _largest_entropy(row["hit@5"], row["ndcg@5"], discount[:5])
    if cutoff == 10:
        mass, mean = row["hit@10"] - row["hit@5"], row["ndcg@10"] - row["ndcg@5"]
        total += _largest_entropy(mass, mean, discount[5:])
    return total


def _largest_entropy(mass: float, mean: float, discount: FloatArray) -> float:
    """Sum of ``p d^2`` for the flattest ``p`` with this mass and this sum of ``p d``."""
    if mass <= 0:
        return 0.0
    # rounding can push the mean discount out of what any ranks allow
    aim = float(np.clip(mean / mass, discount.min() + 1e-6, discount.max() - 1e-6))

    def share(tilt: float) -> FloatArray:
        power = tilt * discount
        weight = np.exp(power - power.max())
        return weight / weight.sum()

    tilt = brentq(lambda t: float(share(t) @ discount) - aim, -1e5, 1e5)
    return mass * float(share(tilt) @ discount**2)
