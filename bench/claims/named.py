"""Which line of ours speaks for a published row: named in data before any result, chosen by the cell alone.

Many lines may stand for one published number (losses, decoders, searches, profiles). Each may be near it by
luck, and the nearest of many most likely is. ``named.yaml`` says what the line has to be; of several that are
run, the one with fewest departures is taken. No result takes part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bench.cell import Cell
from bench.claims.paper import Claim, claims, table5
from bench.experiment.yaml_text import read_yaml
from bench.significance.equivalence import MARGIN, margin

TABLE = Path(__file__).with_name("named.yaml")


class Named(BaseModel):
    """What the line that speaks for a published row has to be.

    Attributes:
        method: of the published row.
        loss: of the published row; empty where the paper names none.
        forks: our losses that the row may be about; one, unless the paper is silent.
        tuned: whether a search chose the configuration.
        decoder: None for models that write no titles.
        against: the published loss that it is to be told from; None without such a claim.
        reason: why this one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    loss: str
    forks: tuple[str | None, ...]
    tuned: bool
    decoder: str | None
    against: str | None
    reason: str

    @property
    def silent(self) -> bool:
        """Whether the paper does not say which loss it used."""
        return len(self.forks) > 1


@cache
def naming() -> Mapping[tuple[str, str], Named]:
    """Every entry of ``named.yaml`` by method and published loss."""
    found = [Named(**entry) for entry in read_yaml(TABLE)]
    by = {(one.method, one.loss): one for one in found}
    assert len(by) == len(found), "one entry a method and loss"
    return by


def named(claim: Claim) -> Named:
    """What the line for a published number has to be."""
    return naming()[claim.method, claim.loss]


def margin_of(claim: Claim) -> float:
    """D: 1.2, or the root of the published ratio to the value it is to be told from, where that is less.

    Two numbers within their margins then keep their order. The other value is of the same table, or of
    Table 5 where that table has none.
    """
    against = named(claim).against
    if against is None:
        return MARGIN
    other = (claim.dataset, claim.method, against)
    same = [
        c.value
        for c in claims()
        if (c.table, c.where, c.metric) == (claim.table, other, claim.metric)
    ]
    value = same[0] if same else table5()[other][claim.metric]
    return margin(max(value, claim.value) / min(value, claim.value))


def strays(claim: Claim, cell: Cell) -> tuple[str, ...]:
    """In what a cell is not as the named line, one phrase each.

    Args:
        claim: the published number.
        cell: one that matches it.
    """
    wanted = named(claim)
    said = {
        f"loss {cell.loss}, the paper names none": wanted.silent,
        "tuned by a search": cell.tune and not wanted.tuned,
        "not tuned": wanted.tuned and not cell.tune,
    }
    return tuple(phrase for phrase, true in said.items() if true)


def first_of(claim: Claim, cells: Sequence[Cell], differs: Sequence[Sequence[str]]) -> int:
    """Position of the line that speaks for a claim.

    That of the named decoder and tuning rule (where none was run, the others), with fewest departures, then
    of the lowest slot.

    Args:
        claim: the published number.
        cells: of the lines that match it.
        differs: departures of each from the paper's protocol.
    """
    wanted = named(claim)

    def key(at: int) -> tuple[bool, bool, int, str]:
        cell = cells[at]
        decoder, tuned = cell.decoder != wanted.decoder, bool(cell.tune) != wanted.tuned
        return decoder, tuned, len(differs[at]), cell.slot

    return min(range(len(cells)), key=key)
