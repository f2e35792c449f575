"""Interactions -> windows -> a split, by a named protocol with a version.

A protocol's name and version go into the hash of every dataset it shapes, so a change of rule can never
pass as the same data. All of them slide a window over each user's items in order of time (ties by item
id) and never look at row order in the source.

* ``global_time`` is the paper's: windows sorted by the time of their target (ties by user id), the first
  ``int(.8 N)`` train, up to ``int(.9 N)`` validation, the rest test. Users and history items cross the
  border; targets do not.
* ``leave_one_out`` tests on each user's last item and validates on the one before. Common elsewhere, and
  not global in time: train holds events later than some test targets.
* ``global_time_by_user`` sorts users by their last event and cuts 8:1:1 over users. Train ends with its
  last user; an exam keeps only targets after the part before it ended. No user is in two parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.cell import digest
from bench.data.exams import exam
from bench.errors import ConfigError, DataError
from bench.ragged import within
from bench.types import (
    Catalogue,
    Dataset,
    IntArray,
    Ragged,
    Split,
    Windows,
)


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who took what and when, in any order.

    Attributes:
        catalogue: the items.
        user_I: user ids, int64 [I].
        item_I: item ids 1..N, int [I].
        timestamp_I: unix seconds, int64 [I].
    """

    catalogue: Catalogue
    user_I: IntArray
    item_I: IntArray
    timestamp_I: IntArray

    def __post_init__(self) -> None:
        sizes = {len(self.user_I), len(self.item_I), len(self.timestamp_I)}
        if len(sizes) != 1:
            raise DataError(f"users, items and times must be equally many, got {sorted(sizes)}")
        if not len(self.item_I):
            raise DataError("there are no interactions to split")
        low, high = int(self.item_I.min()), int(self.item_I.max())
        if low < 1 or high > self.catalogue.n_items:
            raise DataError(
                f"item ids must be 1..{self.catalogue.n_items}, the catalogue; got {low}..{high}"
            )

    def __len__(self) -> int:
        return len(self.item_I)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A way to split, with its switches.

    Attributes:
        name: one of ``PROTOCOLS``.
        width: longest window, target included; the paper's is 11.
        min_length: shortest window kept, target included; users with fewer items are left out.
    """

    name: str = "global_time"
    width: int = 11
    min_length: int = 2

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise ConfigError(
                f"no split protocol is called {self.name!r}; known: {', '.join(PROTOCOLS)}"
            )
        if not 2 <= self.min_length <= self.width:
            raise ConfigError(
                "a window needs 2 <= min_length <= width, "
                f"got min_length={self.min_length}, width={self.width}"
            )

    @property
    def identity(self) -> str:
        """Name, version and switches in one string, for hashes and notes."""
        version, _ = PROTOCOLS[self.name]
        return f"{self.name}/{version} width={self.width} min_length={self.min_length}"


@dataclass(frozen=True, eq=False)
class _Timeline:
    """Interactions sorted by (user, time, item); user u owns ``start[u] : start[u] + count[u]``."""

    catalogue: Catalogue
    user: IntArray
    item: IntArray
    time: IntArray
    start: IntArray
    count: IntArray

    @classmethod
    def of(cls, x: Interactions) -> _Timeline:
        order = np.lexsort((x.item_I, x.timestamp_I, x.user_I))
        user = x.user_I[order]
        start = np.flatnonzero(np.append(True, user[1:] != user[:-1]))
        count = np.diff(np.append(start, len(user)))
        item, time = x.item_I[order], x.timestamp_I[order]
        return cls(x.catalogue, user, item, time, start, count)

    def gather(self, begin: IntArray, length: IntArray) -> Windows:
        """Rows from their first position and length, sorted by target time (ties by user id)."""
        end = begin + length - 1
        order = np.argsort(self.time[end], kind="stable")
        begin, length, end = begin[order], length[order], end[order]
        offsets = np.concatenate([[0], np.cumsum(length - 1)])
        values = self.item[np.repeat(begin, length - 1) + within(length - 1)].astype(np.int32)
        return Windows(
            self.catalogue,
            self.user[end].astype(np.int64),
            Ragged(values, offsets),
            self.item[end].astype(np.int32),
            self.time[end].astype(np.int64),
        )

    def slide(self, count: IntArray, width: int, min_length: int) -> tuple[IntArray, IntArray]:
        """First positions and lengths of all windows over the first ``count`` items of each user.

        A user with n <= width items gives one window of them all, n > width gives n - width + 1.
        """
        rows = np.where(count >= min_length, np.maximum(1, count - width + 1), 0)
        owner = np.repeat(np.arange(len(count)), rows)
        return self.start[owner] + within(rows), np.minimum(count, width)[owner]


Parts = tuple[Windows, Windows, Windows]


def _global_time(timeline: _Timeline, p: Protocol) -> Parts:
    rows = timeline.gather(*timeline.slide(timeline.count, p.width, p.min_length))
    n = len(rows)
    first, second = int(0.8 * n), int(0.9 * n)
    order = np.arange(n)
    return rows.take(order[:first]), rows.take(order[first:second]), rows.take(order[second:])


def _leave_one_out(timeline: _Timeline, p: Protocol) -> Parts:
    # A user whose validation window would be shorter than min_length only trains.
    examined = timeline.count > p.min_length
    kept = timeline.count - np.where(examined, 2, 0)
    train = timeline.gather(*timeline.slide(kept, p.width, p.min_length))

    def exam(held_back: int) -> Windows:
        stop = timeline.count[examined] - held_back
        length = np.minimum(stop, p.width)
        return timeline.gather(timeline.start[examined] + stop - length, length)

    return train, exam(1), exam(0)


def _global_time_by_user(timeline: _Timeline, p: Protocol) -> Parts:
    rows = timeline.gather(*timeline.slide(timeline.count, p.width, p.min_length))
    user_U, owner_W = np.unique(rows.user_W, return_inverse=True)
    last_U = np.full(len(user_U), np.iinfo(np.int64).min)
    np.maximum.at(last_U, owner_W, rows.timestamp_W)
    n = len(user_U)
    cuts = int(0.8 * n), int(0.9 * n)
    order_U = np.argsort(last_U, kind="stable")
    part_U = np.empty(n, np.int64)
    part_U[order_U] = np.searchsorted(cuts, np.arange(n), side="right")
    part_W = part_U[owner_W]
    ends = [last_U[part_U == part].max(initial=np.iinfo(np.int64).min) for part in (0, 1)]
    after_valid = rows.timestamp_W > max(ends)
    return (
        rows.take(np.flatnonzero(part_W == 0)),
        rows.take(np.flatnonzero((part_W == 1) & (rows.timestamp_W > ends[0]))),
        rows.take(np.flatnonzero((part_W == 2) & after_valid)),
    )


PROTOCOLS: dict[str, tuple[str, Callable[[_Timeline, Protocol], Parts]]] = {
    "global_time": ("1", _global_time),
    "leave_one_out": ("1", _leave_one_out),
    "global_time_by_user": ("1", _global_time_by_user),
}
PAPER = Protocol()


def windows_of(interactions: Interactions, protocol: Protocol = PAPER) -> Windows:
    """Every window of every user, stably sorted by target time with ties by user id.

    Without short users there are ``sum(max(1, n - width + 1))`` of them for users of n items.
    """
    timeline = _Timeline.of(interactions)
    return timeline.gather(*timeline.slide(timeline.count, protocol.width, protocol.min_length))


def split(interactions: Interactions, protocol: Protocol = PAPER) -> tuple[Split, tuple[str, ...]]:
    """Cut interactions for an experiment.

    Returns:
        The split, and notes on what was left out.

    Raises:
        DataError: a part of the split would be empty.
    """
    timeline = _Timeline.of(interactions)
    _, cut = PROTOCOLS[protocol.name]
    parts = cut(timeline, protocol)
    sizes = dict(zip(("train", "valid", "test"), map(len, parts), strict=True))
    if min(sizes.values()) == 0:
        raise DataError(
            f"{protocol.identity} leaves a part empty ({sizes}) of {len(interactions)} interactions; "
            "bring more data, or lower min_length"
        )
    short = int((timeline.count < protocol.min_length).sum())
    notes = [f"split by {protocol.identity}"]
    if short:
        notes.append(f"{short} users with fewer than {protocol.min_length} items are left out")
    if protocol.name == "global_time_by_user":
        begin, _ = timeline.slide(timeline.count, protocol.width, protocol.min_length)
        lost = len(begin) - sum(sizes.values())
        notes.append(f"{lost} windows of exam users that fall before their exam are left out")
    train, valid, test = parts
    return Split(train, exam(valid), exam(test)), tuple(notes)


def make_dataset(
    name: str,
    interactions: Interactions,
    protocol: Protocol = PAPER,
    *,
    source: str,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """A dataset from interactions.

    Args:
        name: how it is called in rows and tables.
        interactions: the events.
        protocol: how to cut them.
        source: hash of the bytes they came from, any text.
        notes: what the reader has to say, put before the notes of the split.

    Raises:
        DataError: a part of the split would be empty.
    """
    parts, said = split(interactions, protocol)
    version = digest([source, protocol.identity, interactions.catalogue.domain])[:16]
    return Dataset(name, version, interactions.catalogue, parts, (*notes, *said))
