"""Histories freed of what some writers fill them up with to one length."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.data.amazon.streams import Repairs

PADDING = ("0", "[PAD]")


def without_padding(
    parts: dict[str, pa.Table], known: Container[str], repairs: Repairs
) -> dict[str, pa.Table]:
    """Tables whose histories hold items only.

    ``0`` and ``[PAD]`` are padding unless they are known items, a target is called so, or one of them
    stands between two items of a history.

    Args:
        parts: tables with the columns ``history`` (lists of names) and ``item`` (the targets).
        known: names that are items.
        repairs: takes the count.
    """
    targets = {name for table in parts.values() for name in pc.unique(table["item"]).to_pylist()}
    words = [word for word in PADDING if word not in known and word not in targets]
    found: dict[str, pa.Table] = {}
    total = 0
    for part, table in parts.items():
        lists = table["history"].combine_chunks()
        names, lengths = pc.list_flatten(lists), pc.list_value_length(lists).to_numpy()
        flags = pc.is_in(names, value_set=pa.array(words, pa.string()))
        padding = flags.to_numpy(zero_copy_only=False)
        owner = np.repeat(np.arange(len(lists)), lengths)
        before = np.maximum.accumulate(np.where(padding, -1, owner)) == owner
        last = np.where(padding, len(lists), owner)
        behind = np.minimum.accumulate(last[::-1])[::-1] == owner
        if (padding & before & behind).any():
            return parts
        kept = np.bincount(owner[~padding], minlength=len(lists))
        offsets = pa.array(np.concatenate([[0], np.cumsum(kept)]).astype(np.int32))
        freed = pa.ListArray.from_arrays(offsets, names.filter(pc.invert(flags)))
        found[part] = table.set_column(table.column_names.index("history"), "history", freed)
        total += int(padding.sum())
    repairs.count(f"entries of histories are padding ({' or '.join(words)}), no items", total)
    return found
