"""Packing of lists: the titles, and for each distinct title its counts in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.evaluation.lists import Lists, distinct


def list_arrays(lists: Lists) -> dict[str, Any]:
    """The arrays of a file. The distinct titles are not among them, as the lists imply them."""
    small = int(lists.title_QK.max(initial=0)) < 1 << 16
    return {
        "lists.title_QK": lists.title_QK.astype(np.uint16 if small else np.int32),
        "lists.count_D": lists.count_D.astype(np.int32),
        "lists.seen_D": np.packbits(lists.seen_D),
        "lists.facts": np.array([lists.n_titles, lists.n_train, int(lists.by_chance)], np.int64),
    }


def read_lists(arrays: Mapping[str, Any]) -> Lists | None:
    """The lists that ``list_arrays`` packed; None for a file without lists."""
    if "lists.title_QK" not in arrays:
        return None
    title_QK, count_D = arrays["lists.title_QK"], arrays["lists.count_D"]
    n_titles, n_train, by_chance = (int(fact) for fact in arrays["lists.facts"])
    seen_D = np.unpackbits(arrays["lists.seen_D"], count=len(count_D)).astype(bool)
    return Lists(title_QK, distinct(title_QK), count_D, seen_D, n_titles, n_train, bool(by_chance))
