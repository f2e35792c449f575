"""The questions as functions: ``from bench.api import lists, wins, recommend, why``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cell import HEADLINE, K
from bench.questions.exam import answered
from bench.questions.find import find
from bench.questions.recommend import Asked
from bench.questions.recommend import recommend as continued
from bench.questions.why import why as reasons
from bench.questions.wins import wins as compared
from bench.results.places import RESULTS, default_data_root, default_store

Folder = str | Path | None


def lists(
    cell: str,
    *,
    top: int = K,
    out: str | Path = RESULTS,
    store: Folder = None,
    data_root: Folder = None,
) -> list[dict[str, Any]]:
    """The lists of a cell on its test rows: user, history, target, rank of the target, list.

    Args:
        cell: a name as printed, a label, a part of one, a key or a row's file.
        top: entries of a list.
        out: folder of own rows and tables.
        store: run store; None for ``$BENCH_STORE``, else ``.bench``.
        data_root: folder of the datasets; None for ``$BENCH_DATA``, else the usual one.

    Raises:
        BenchError: no such cell, it has no lists, or its data are not here.
    """
    place = default_store(out, store)
    exam = answered(find(cell, place), place, default_data_root(data_root))
    return [exam.record(row, top) for row in range(len(exam))]


def wins(
    a: str,
    b: str,
    *,
    metric: str = HEADLINE,
    out: str | Path = RESULTS,
    store: Folder = None,
    data_root: Folder = None,
) -> list[dict[str, Any]]:
    """The test rows on which cell ``a`` beats cell ``b``, the largest gap first.

    Args:
        a: the cell that should be ahead, named as in ``lists``.
        b: the other.
        metric: of positions, e.g. ``hit@5``.
        out: folder of own rows and tables.
        store: run store; None for ``$BENCH_STORE``, else ``.bench``.
        data_root: folder of the datasets; None for ``$BENCH_DATA``, else the usual one.

    Raises:
        BenchError: as ``lists``, or the cells were examined on different rows.
    """
    place, root = default_store(out, store), default_data_root(data_root)
    first, second = (answered(find(name, place), place, root) for name in (a, b))
    return list(compared(first, second, metric).records())


def recommend(
    cell: str,
    histories: Mapping[str, Sequence[str]] | Sequence[Sequence[str]],
    *,
    top: int = K,
    out: str | Path = RESULTS,
    store: Folder = None,
    data_root: Folder = None,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Continue histories with the stored model of a cell.

    Args:
        cell: named as in ``lists``.
        histories: by user or in a row, the items of each, oldest first, by own id or title.
        top: length of a list.
        out: folder of own rows and tables.
        store: run store; None for ``$BENCH_STORE``, else ``.bench``.
        data_root: folder of the datasets; None for ``$BENCH_DATA``, else the usual one.
        device: where the model runs.

    Raises:
        BenchError: no such cell, its model is not here, or an item is not in the catalogue.
    """
    named = (
        histories.items()
        if isinstance(histories, Mapping)
        else ((str(number), history) for number, history in enumerate(histories, 1))
    )
    asked = [Asked(user, (h,) if isinstance(h, str) else tuple(map(str, h))) for user, h in named]
    place = default_store(out, store)
    found = find(cell, place).cell
    return continued(found, asked, place, default_data_root(data_root), k=top, device=device)


def why(cell: str, *, out: str | Path = RESULTS, store: Folder = None) -> str:
    """How a cell came to its result, or why it has none, as text.

    Args:
        cell: named as in ``lists``.
        out: folder of own rows and tables.
        store: run store; None for ``$BENCH_STORE``, else ``.bench``.
    """
    place = default_store(out, store)
    return "\n".join(reasons(find(cell, place), place))
