"""Whether our order of methods is that of Table 5, within one board and backbone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from bench.cell import HEADLINE, Cell
from bench.claims.effects import Effect, LogRatios, Where, effects
from bench.claims.ledger import speaker
from bench.claims.matching import matches
from bench.claims.paper import claims, table5
from bench.claims.verdict import Ours
from bench.results.table_key import TableKey, names
from bench.significance.intervals import ALPHA
from bench.significance.kendall import kendall, kendall_bounds

Pairs = Mapping[tuple[str, str], float]  # Holm-adjusted p by the keys of two cells


@dataclass(frozen=True)
class Agreement:
    """How well the order of methods agrees with Table 5 on one dataset, within one board.

    Attributes:
        dataset: with its version where a board has two.
        board: the board as tables name it, then backbone and decoder; nothing is mixed across them.
        methods: how many were compared.
        tau: Kendall's tau-b of NDCG@10; nan below two methods.
        low, high: ends of tau that the separated pairs leave open, 95 % at once.
        effects: of each loss over LML under each backbone method.
    """

    dataset: str
    board: str
    methods: int
    tau: float
    low: float
    high: float
    effects: tuple[Effect, ...]


def agreement(
    ours: Iterable[tuple[Cell, Mapping[str, Ours]]],
    separated: Pairs,
    ratios: LogRatios,
) -> list[Agreement]:
    """Rank agreement per dataset and board over the rows of Table 5 that were run.

    Where several of our configurations stand for one published row, the one that is named for it is compared:
    one number against one number, chosen without a look at it.

    Args:
        ours: configurations, each with its metrics by name.
        separated: Holm-adjusted p-values of pairs, in both orders; pairs it lacks count as not separated.
        ratios: of pairs of lines of one method, by the keys of their cells.
    """
    groups: dict[tuple[TableKey, str], list[Ours]] = {}
    for cell, metrics in ours:
        if HEADLINE in metrics:
            groups.setdefault((TableKey.of(cell), _llm(cell)), []).append(metrics[HEADLINE])
    boards = {group: _by_row(lines) for group, lines in groups.items()}
    for (table, llm), found in list(boards.items()):
        if llm:  # models without a backbone are compared with those of every backbone
            boards[table, llm] = {**boards.get((table, ""), {}), **found}
    name = names(table for table, _ in boards)
    agreements = [
        _against(name[table], f"{table.board}{llm}", table.dataset, found, separated, ratios)
        for (table, llm), found in boards.items()
        if found
    ]
    return sorted(agreements, key=lambda one: (one.dataset, one.board))


def _by_row(lines: list[Ours]) -> dict[Where, Ours]:
    found: dict[Where, Ours] = {}
    for claim in claims():
        if (claim.table, claim.metric) == ("table5", HEADLINE):
            one = speaker(claim, [line for line in lines if matches(claim, line.cell)])
            if one is not None:
                found[claim.method, claim.loss] = one
    return found


def _llm(cell: Cell) -> str:
    """`` [backbone, decoder]``; empty without a backbone."""
    return f" [{', '.join(filter(None, [cell.backbone, cell.decoder]))}]" if cell.backbone else ""


def _against(
    name: str,
    board: str,
    dataset: str,
    found: Mapping[Where, Ours],
    separated: Pairs,
    ratios: LogRatios,
) -> Agreement:
    ours = {where: one.mean for where, one in found.items()}
    theirs = {(m, loss): table5()[dataset, m, loss][HEADLINE] for m, loss in ours}
    tau = kendall(list(ours.values()), list(theirs.values()))
    agree = against = 0
    pairs = list(combinations(found, 2))
    for first, second in pairs:
        place = (found[first].cell.key, found[second].cell.key)
        same = (ours[first] - ours[second]) * (theirs[first] - theirs[second])
        if separated.get(place, 1.0) < ALPHA:
            agree += same > 0
            against += same < 0
    low, high = kendall_bounds(agree, against, len(pairs)) if pairs else (-1.0, 1.0)
    return Agreement(name, board, len(found), tau, low, high, effects(dataset, found, ratios))
