"""Reviews as integer codes: gathered block by block, then thinned out to a k-core.

Axis: E events, in the order of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.data.amazon.columns import MILLISECONDS, as_names, as_times, check_cut, in_seconds
from bench.data.amazon.streams import Repairs
from bench.errors import DataError
from bench.types import BoolArray, FloatArray, IntArray

Unit = Literal["s", "ms", "auto"]
Repeats = Literal["keep", "exact", "first", "last"]
UNIFY_EVERY = 16
NO_ID = ("", "nan", "NaN", "null", "None", "<NA>")


@dataclass(frozen=True, eq=False)
class Events:
    """Who reviewed what and when, ids as codes into lists of names.

    Attributes:
        user_E, item_E: codes in order of first appearance in the file, int32 [E].
        time_E: unix seconds, int64 [E].
        users, items: the name behind each code.
    """

    user_E: IntArray
    item_E: IntArray
    time_E: IntArray
    users: pa.Array
    items: pa.Array

    def __len__(self) -> int:
        return len(self.user_E)

    def take(self, keep: BoolArray | IntArray) -> Events:
        """The chosen events, in order; codes stay what they were."""
        parts = self.user_E[keep], self.item_E[keep], self.time_E[keep]
        return Events(*parts, self.users, self.items)


class _Codes:
    """A column of names turned into codes as it grows."""

    def __init__(self) -> None:
        self.chunks: list[pa.Array] = [pa.array([], pa.string()).dictionary_encode()]

    def append(self, names: pa.Array) -> None:
        self.chunks.append(names.dictionary_encode())
        # Doubling, so that a name is hashed a fixed number of times however many blocks there are.
        waiting = sum(map(len, self.chunks[1:]))
        if len(self.chunks) > UNIFY_EVERY and waiting > len(self.chunks[0]):
            self.chunks = [self._unified()]

    def _unified(self) -> pa.DictionaryArray:
        merged = pa.chunked_array(self.chunks).unify_dictionaries()
        parts = [chunk.indices for chunk in merged.chunks]
        return pa.DictionaryArray.from_arrays(pa.concat_arrays(parts), merged.chunk(0).dictionary)

    def finish(self) -> tuple[IntArray, pa.Array]:
        """Codes, int32 [E], and the name of each code."""
        column = self._unified()
        self.chunks = []
        return column.indices.to_numpy(zero_copy_only=False), column.dictionary


class EventLog:
    """Collects events from tables whose columns are ``user``, ``item`` and ``time``.

    Rows without a usable user, item or time are left out and counted. Memory is 16 bytes an event plus
    the distinct names.

    Args:
        unit: of ``time``; ``auto`` takes values beyond the year 5138 for milliseconds.
        repairs: takes the counts.
        where: the file, for messages.
    """

    def __init__(self, unit: Unit, repairs: Repairs, where: str = "events") -> None:
        self.unit, self.repairs, self.where = unit, repairs, where
        self.users, self.items = _Codes(), _Codes()
        self.times: list[IntArray] = [np.empty(0, np.int64)]
        self.cuts: list[FloatArray] = []
        self.rows = 0

    def append(self, table: pa.Table) -> None:
        """Add the rows of a table.

        Raises:
            DataError: times are in another unit than stated.
        """
        self.rows += table.num_rows
        user, item = (as_names(table[name]) for name in ("user", "item"))
        time, cut = as_times(table["time"])
        usable = self._usable(user, item, time)
        if usable is not None:
            user, item, time = (column.filter(usable) for column in (user, item, time))
            cut = cut[usable.to_numpy(zero_copy_only=False)]
        self._append_times(time.to_numpy(zero_copy_only=False), cut)
        self.users.append(user)
        self.items.append(item)

    def _usable(self, user: pa.Array, item: pa.Array, time: pa.Array) -> pa.Array | None:
        faults = {
            "rows without a user or an item were dropped": pc.or_(_absent(user), _absent(item)),
            "rows with a negative id were dropped": pc.or_(_negative(user), _negative(item)),
            "rows without a time, or before 1970, were dropped": pc.fill_null(
                pc.less(time, 0), True
            ),
        }
        bad = None
        for what, found in faults.items():
            found = found if bad is None else pc.and_not(found, bad)
            self.repairs.count(what, pc.sum(found).as_py() or 0)
            bad = found if bad is None else pc.or_(bad, found)
        return None if not pc.any(bad).as_py() else pc.invert(bad)

    def _append_times(self, time_E: IntArray, cut_E: FloatArray) -> None:
        second_E = self._seconds(time_E)
        self.times.append(second_E)
        if cut_E.any():  # below a millisecond it says no more than the milliseconds that go as well
            self.cuts.append(np.where(second_E == time_E, cut_E, 0))
        else:  # takes no memory
            self.cuts.append(np.broadcast_to(0.0, len(cut_E)))

    def _seconds(self, time_E: IntArray) -> IntArray:
        if self.unit == "ms":
            return time_E // 1000
        largest = int(time_E.max(initial=0))
        if self.unit == "s" and largest >= MILLISECONDS:
            raise DataError(
                f"time {largest} is no number of seconds; these are milliseconds, as in the 2023 "
                "release: state the release or the unit"
            )
        return in_seconds(time_E)

    def finish(self) -> Events:
        """All events gathered; the log is spent.

        Raises:
            DataError: not one usable event, or times that only a fraction of a second tells apart.
        """
        (user_E, users), (item_E, items) = self.users.finish(), self.items.finish()
        time_E = np.concatenate(self.times)
        if not len(time_E):
            said = "; ".join(self.repairs.sentences()) or "no rows"
            raise DataError(f"not one usable row of {self.rows:,}: {said}")
        if any(cut.any() for cut in self.cuts):
            check_cut(self.where, time_E, np.concatenate(self.cuts), self.repairs)
        return Events(user_E, item_E, time_E, users, items)


def _absent(names: pa.Array) -> pa.Array:
    missing = pc.is_in(names, value_set=pa.array(NO_ID, pa.string()))
    return pc.or_(pc.is_null(names), missing)


def _negative(names: pa.Array) -> pa.Array:
    """Names that are a negative number; ids such as ``-1`` stand for unknown."""
    dashed = pc.fill_null(pc.starts_with(names, "-"), False)
    if not pc.any(dashed).as_py():
        return dashed
    return pc.fill_null(pc.match_substring_regex(names, r"^-[0-9]+(\.[0-9]+)?$"), False)


def k_core(events: Events, core: int) -> Events:
    """Drop users and items with fewer than ``core`` events, again and again until nobody is left to drop.

    The result is the largest set in which everybody has ``core`` events; it does not depend on the order
    of dropping.
    """
    while True:
        n_of_user = np.bincount(events.user_E, minlength=1)
        n_of_item = np.bincount(events.item_E, minlength=1)
        keep = (n_of_user[events.user_E] >= core) & (n_of_item[events.item_E] >= core)
        if keep.all():
            return events
        events = events.take(keep)


def repeated(events: Events, policy: Repeats) -> BoolArray:
    """Which events a policy on repeats would drop, bool [E].

    ``exact`` drops later copies of a user, an item and a time; ``first`` and ``last`` keep a user's
    first or last event with an item (equal times: the earlier, or later, row).
    """
    drop = np.zeros(len(events), bool)
    if policy == "keep" or not len(events):
        return drop
    order = np.lexsort((events.time_E, events.item_E, events.user_E))
    user, item, time = (x[order] for x in (events.user_E, events.item_E, events.time_E))
    same = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    if policy == "exact":
        same &= time[1:] == time[:-1]
    drop[order[:-1][same] if policy == "last" else order[1:][same]] = True
    return drop
