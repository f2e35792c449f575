"""Reviews as integer codes: gathered block by block, then thinned out to a k-core.

Axis: E events, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.data.amazon.columns import as_ids, check_cut
from bench.data.amazon.streams import Repairs
from bench.data.amazon.times import Block, Times, Unit, nth_row
from bench.data.missing import MISSING
from bench.errors import DataError
from bench.types import BoolArray, IntArray

Repeats = Literal["keep", "exact", "first", "last"]
UNIFY_EVERY = 16
EARLY = "rows with a time before 1970 were dropped"
TOLERATED = 0.01  # share of rows that may be unusable


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

    The one gate through which interactions come in, whatever file they are from. Rows without a usable
    user, item or time are left out and counted, with the first of each kind; too many are refused. Where
    there is no time, the order of the rows stands for it. Memory is 16 bytes an event plus the distinct
    names.

    Args:
        repairs: takes the counts.
        unit: of times that are numbers.
        pattern: of ``strptime``, for dates in an unusual form.
        tolerated: largest share of rows that may be unusable.
        where: the file, for messages.
        place: the place of a row in it, for messages.
    """

    def __init__(
        self,
        repairs: Repairs,
        *,
        unit: Unit = "auto",
        pattern: str | None = None,
        tolerated: float = TOLERATED,
        where: str = "events",
        place: Callable[[int], str] = nth_row,
    ) -> None:
        self.repairs, self.where, self.tolerated = repairs, where, tolerated
        self.place = place
        self.times = Times(unit, pattern, place)
        self.users, self.items = _Codes(), _Codes()
        self.dropped: list[IntArray] = [np.empty(0, np.int64)]
        self.rows = 0

    def append(self, table: pa.Table) -> None:
        """Add the rows of a table.

        Raises:
            DataError: a column holds bytes that are no text.
        """
        start, self.rows = self.rows, self.rows + table.num_rows
        user, item = (as_ids(table[name], self.repairs) for name in ("user", "item"))
        if "time" in table.column_names:
            block = self.times.read(table["time"], start)
        else:
            block = self.times.read(pa.array(np.arange(start, self.rows)), start)
        bad = self._bad(table, user, item, block, start)
        self.dropped.append(np.flatnonzero(bad) + start)
        self.times.append(block, ~bad)
        if bad.any():
            user, item = (names.filter(pa.array(~bad)) for names in (user, item))
        self.users.append(user)
        self.items.append(item)

    def _bad(
        self, table: pa.Table, user: pa.Array, item: pa.Array, block: Block, start: int
    ) -> BoolArray:
        """Rows that cannot be used, each counted as the first fault it has."""
        number = block.form >= 0
        faults = {
            "rows without a user were dropped": ("user", _absent(user)),
            "rows without an item were dropped": ("item", _absent(item)),
            "rows with a negative user id were dropped": ("user", _negative(user)),
            "rows with a negative item id were dropped": ("item", _negative(item)),
            "rows with a control character in the user id were dropped": (
                "user",
                unprintable(user),
            ),
            "rows with a control character in the item id were dropped": (
                "item",
                unprintable(item),
            ),
            "rows without a time that can be read were dropped": ("time", ~number),
            EARLY: ("time", number & (block.value < 0)),
        }
        bad = np.zeros(table.num_rows, bool)
        for what, (name, found) in faults.items():
            found = found & ~bad
            if found.any():
                row = int(np.argmax(found))
                said = "" if what in self.repairs.counts else f"{self.place(start + row)}: "
                self.repairs.count(what, found.sum(), f"{said}{table[name][row].as_py()!r}")
            bad |= found
        return bad

    def finish(self) -> Events:
        """All events gathered; the log is spent.

        Raises:
            DataError: not one usable event, too few of them, times in two forms or units, or times that
                only a fraction of a second tells apart.
        """
        (user_E, users), (item_E, items) = self.users.finish(), self.items.finish()
        dropped = np.concatenate(self.dropped)
        before = dropped - np.arange(len(dropped))  # kept rows in front of each dropped one
        try:
            time_E, cut_E, good_E = self.times.finish(
                lambda kept: kept + int(np.searchsorted(before, kept, side="right"))
            )
        except DataError as fault:
            raise DataError(f"{self.where}: {fault}") from fault
        self.repairs.count("rows with a date that does not exist were dropped", (~good_E).sum())
        early_E = good_E & (time_E < 0)  # dates of which only the whole column tells the order
        self.repairs.count(EARLY, early_E.sum())
        good_E &= ~early_E
        self._refuse_too_many(len(dropped) + int((~good_E).sum()))
        check_cut(self.where, time_E[good_E], cut_E[good_E], self.repairs)
        for sentence in self.times.said:
            self.repairs.say(sentence)
        return Events(user_E, item_E, time_E, users, items).take(good_E)

    def _refuse_too_many(self, unusable: int) -> None:
        said = "; ".join(self.repairs.sentences()) or "no rows"
        if unusable == self.rows:
            raise DataError(f"{self.where}: not one usable row of {self.rows:,}: {said}")
        if unusable > max(1, self.rows * self.tolerated):
            raise DataError(
                f"{self.where}: {unusable:,} of {self.rows:,} rows cannot be used, more than "
                f"{self.tolerated:.3g} of them: {said}. Repair them, or name the separator, the columns "
                "or the form of the times (--time-format), or allow a larger share with --tolerate"
            )


def _absent(names: pa.Array) -> BoolArray:
    missing = pc.is_in(names, value_set=pa.array(sorted(MISSING), pa.string()))
    return _flags(pc.or_(pc.is_null(names), missing))


def _negative(names: pa.Array) -> BoolArray:
    """Names that are a negative number; ids such as ``-1`` stand for unknown."""
    dashed = pc.fill_null(pc.starts_with(names, "-"), False)
    if not pc.any(dashed).as_py():
        return _flags(dashed)
    return _flags(pc.fill_null(pc.match_substring_regex(names, r"^-[0-9]+(\.[0-9]+)?$"), False))


def unprintable(names: pa.Array) -> BoolArray:
    """Names with a control character, such as NUL, which few formats can hold."""
    return _flags(pc.fill_null(pc.match_substring_regex(names, "[\\x00-\\x1f\\x7f]"), False))


def _flags(column: pa.Array) -> BoolArray:
    return np.asarray(column.to_numpy(zero_copy_only=False), bool)


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
