"""What can be reached without knowing any taste: one sentence each for ids, text and the order of ids.

The sentences stand above each table, so that a method's number is read beside what needs no method. Floors
are named here, not asked what they are: a board imports no method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.board.entry import Entry
from bench.board.leaderboard import Leaderboard
from bench.cell import HEADLINE

TEXT = (
    "last_item_text",
    "last_item_text_masked",
    "last_item_text_new",
    "bm25",
    "bm25_recent",
    "minilm_last",
    "minilm_last_new",
    "minilm_history",
    "minilm_history_new",
)
ORDER = ("next_id", "text_next_id", "last_item_text_above")
COIN = "random_new"


def reach(leaderboard: Leaderboard) -> list[str]:
    """The sentences that the lines of a table give rise to, at most three.

    Args:
        leaderboard: the table.
    """
    entries = [line.entry for line in leaderboard.scored]
    told = [_ids(leaderboard)] if leaderboard.cold_share is not None else []
    told += _text(entries)
    order = [*_best("alone", _named(entries, ORDER[:1]))]
    order += _best("with text", _named(entries, ORDER[1:]))
    order += _coin(entries)
    return [*told, "order of ids: " + "; ".join(order)] if order else told


def _ids(leaderboard: Leaderboard) -> str:
    cold = leaderboard.cold_share or 0.0
    return (
        f"cold share {100 * cold:.1f} % of test targets occur nowhere in the training split; ceiling of "
        f"a model that only knows its items: Hit {100 * (1 - cold):.1f} %, lower for lines with fewer "
        "train rows"
    )


def _text(entries: Sequence[Entry]) -> Iterator[str]:
    known = [entry for entry in entries if _share(entry, "series")]
    told = (
        f"; {_percent(known[0], 'series')} of targets are of a series of their history"
        if known
        else ""
    )
    for sentence in _best("text: titles reach without any training", _named(entries, TEXT)):
        yield sentence + told


def _best(what: str, entries: Sequence[Entry]) -> Iterator[str]:
    """The line with the largest mean, in a clause; nothing where there is no line."""
    if entries:
        best = max(entries, key=lambda entry: entry.mean(HEADLINE) or 0.0)
        yield f"{what} {best.mean(HEADLINE):.4f} NDCG@10 ({best.name})"


def _coin(entries: Sequence[Entry]) -> Iterator[str]:
    """Where a target is bought on a later day than the last item: the best line and a coin toss."""
    known = [e for e in entries if e.mean(HEADLINE, "later_day") is not None]
    coin = _named(known, (COIN,))
    if not coin:
        return
    same, later = (_top(known, name) for name in ("same_day", "later_day"))
    yield (
        f"targets of the last item's own day ({_percent(coin[0], 'same_day')} of rows): best line "
        f"{same.mean(HEADLINE, 'same_day') or 0.0:.4f} ({same.name}); of a later day "
        f"({_percent(coin[0], 'later_day')}): {later.mean(HEADLINE, 'later_day'):.4f} ({later.name}), where "
        f"ten random new items expect {coin[0].mean(HEADLINE, 'later_day'):.4f}"
    )


def _top(entries: Sequence[Entry], stratum: str) -> Entry:
    """The line with the largest mean in a stratum."""
    return max(entries, key=lambda entry: entry.mean(HEADLINE, stratum) or 0.0)


def _named(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    return [entry for entry in entries if entry.cell.method in names]


def _share(entry: Entry, stratum: str) -> float | None:
    counts = entry.figures[0].counts.get(stratum)
    return counts.n / entry.n if counts is not None and entry.n else None


def _percent(entry: Entry, stratum: str) -> str:
    return f"{100 * (_share(entry, stratum) or 0.0):.1f} %"
