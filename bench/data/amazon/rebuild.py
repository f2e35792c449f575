"""Amazon reviews, from the files as published to windows: every choice a switch.

The rule of the published windows, confirmed by exact rebuilds: drop reviews of items without a title;
5-core on users and items, to a fixed point; number items in order of first appearance; sort each user's
items by time, ties by item id; slide windows of 11; sort all windows by target time; cut 8:1:1. The
defaults of :class:`RebuildSwitches` are that rule.

Files are read as streams: what is held is 16 bytes a review, the distinct names, and the result. The
same bytes and switches give the same dataset on any machine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa

from bench.cell import digest
from bench.data.amazon.events import EventLog, Events, k_core, repeated
from bench.data.amazon.sources import RawSource
from bench.data.amazon.streams import Repairs, file_digest
from bench.data.amazon.switches import PAPER, TABLE_4, RebuildSwitches, Statistics
from bench.data.amazon.titles import join_titles
from bench.data.formats.titles import clean_titles, normal_twins
from bench.data.splits import Interactions, make_dataset
from bench.data.understood import SHOWN, Interaction
from bench.errors import DataError
from bench.types import BoolArray, Catalogue, Dataset, IntArray

__all__ = ["TABLE_4", "RawSource", "RebuildSwitches", "Rebuilt", "Statistics", "build", "rebuild"]


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """A dataset and what it was made of.

    Attributes:
        dataset: windows, titles and split.
        statistics: its figures before windows were cut.
        users, items: the published name by id; entry 0 is empty padding.
        rows: the first interactions, in the order of the file.
        differences: from Table 4, where the paper has this category; None where it has not.
    """

    dataset: Dataset
    statistics: Statistics
    users: pa.Array
    items: pa.Array
    rows: tuple[Interaction, ...]
    differences: tuple[str, ...] | None


def rebuild(source: RawSource, switches: RebuildSwitches = PAPER) -> Dataset:
    """The dataset of :func:`build`, without the names and figures."""
    return build(source, switches).dataset


def build(source: RawSource, switches: RebuildSwitches = PAPER) -> Rebuilt:
    """Read raw reviews and titles and cut them into windows.

    Returns:
        The dataset (its notes hold the counts of all repairs and the comparison with Table 4), with the
        published names of its users and items.

    Raises:
        DataError: a file is missing, damaged or of another format; or nothing is left.
    """
    repairs = Repairs()
    log = EventLog(
        repairs,
        unit=source.unit,
        pattern=source.time_format,
        tolerated=source.tolerated,
        where=str(source.reviews),
        place=source.place,
    )
    for table in source.read_reviews(repairs):
        log.append(table)
    events = log.finish()
    events, titles = select(events, source, switches, repairs)
    hashes = [file_digest(path) for path in source.paths]
    return assemble(events, titles, source, switches, (digest(hashes), repairs))


def select(
    events: Events, source: RawSource, switches: RebuildSwitches, repairs: Repairs
) -> tuple[Events, dict[int, str]]:
    """Reviews that the switches keep, and title by item code.

    Raises:
        DataError: no review is left.
    """
    events = _in_time(events, switches, repairs)
    drop = repeated(events, switches.repeats)
    if drop.any():
        repairs.count(f"repeated reviews were dropped (repeats={switches.repeats})", drop.sum())
        events = events.take(~drop)
    if switches.sample_items is None:
        # The core of the titled reviews lies inside the core of all: less metadata to keep.
        events = k_core(events, switches.core)
    titles = _titles(events, source, switches, repairs)
    if switches.title_required:
        events = _titled(events, titles, repairs)
    if switches.sample_items is not None:
        events = _sampled(events, switches.sample_items, switches.seed)
    events = k_core(events, switches.core)
    if not len(events):
        raise DataError(
            f"{source.reviews}: no review is left with core={switches.core} and "
            f"title_required={switches.title_required}; {'; '.join(repairs.sentences())}"
        )
    return events, titles


def _in_time(events: Events, switches: RebuildSwitches, repairs: Repairs) -> Events:
    if switches.since is None and switches.until is None:
        return events
    keep = np.ones(len(events), bool)
    if switches.since is not None:
        keep &= events.time_E >= switches.since
    if switches.until is not None:
        keep &= events.time_E < switches.until
    repairs.count("reviews outside since..until were dropped", int((~keep).sum()))
    return events.take(keep)


def _titles(
    events: Events, source: RawSource, switches: RebuildSwitches, repairs: Repairs
) -> dict[int, str]:
    if source.metadata is None:
        return {}
    code_C = np.unique(events.item_E)
    names = events.items.take(pa.array(code_C))
    again = source.metadata == source.reviews  # what is odd about its bytes has been counted
    metadata = source.read_metadata(frozenset(names.to_pylist()), Repairs() if again else repairs)
    titles = join_titles(metadata, names, switches.titles, repairs)
    if not titles and not again:
        raise DataError(
            f"{source.metadata}: no title for any of the {len(names):,} items, such as "
            f"{names[0].as_py()!r}; name its columns, or what stands between them"
        )
    return {int(code_C[position]): title for position, title in titles.items()}


def _titled(events: Events, titles: dict[int, str], repairs: Repairs) -> Events:
    has_title = np.zeros(len(events.items), bool)
    has_title[list(titles)] = True
    keep = has_title[events.item_E]
    untitled = len(np.unique(events.item_E[~keep]))
    repairs.count(f"reviews of {untitled:,} items without a title were dropped", (~keep).sum())
    return events.take(keep)


def _sampled(events: Events, n_items: int, seed: int) -> Events:
    code_C = np.unique(events.item_E)
    if n_items >= len(code_C):
        return events
    chosen = np.random.RandomState(seed).choice(code_C, n_items, replace=False)
    return events.take(np.isin(events.item_E, chosen))


def assemble(
    events: Events,
    titles: dict[int, str],
    source: RawSource,
    switches: RebuildSwitches,
    origin: tuple[str, Repairs],
) -> Rebuilt:
    """Number users and items, and cut windows.

    Args:
        events: what :func:`select` left.
        titles: by item code.
        source: gives the name and the domain.
        switches: give the order of ids and the split.
        origin: hash of the files, and the repairs made so far.

    Raises:
        DataError: a part of the split would be empty.
    """
    hashed, repairs = origin
    exact = int(repeated(events, "exact").sum())
    repairs.count("reviews are copies of another (user, item and time) and are kept", exact)
    repairs.count(
        "reviews have the user and the time of another one; such are put in order of item id",
        int(_simultaneous(events)),
    )
    user_of_code, users = number(events.user_E, events.users, switches.user_order)
    item_of_code, items = number(events.item_E, events.items, switches.item_order)
    codes = np.flatnonzero(item_of_code)
    by_id = dict(zip(item_of_code[codes].tolist(), codes.tolist(), strict=True))
    for what, names in (("users", users), ("items", items)):
        for twins in normal_twins(names.to_pylist()):
            repairs.say(
                f"{what} {' and '.join(map(ascii, twins))} look the same and are kept apart"
            )
    raw = [titles.get(by_id[item], "") for item in range(1, len(items))]
    cleaned, said = clean_titles(raw, range(1, len(items)), where=str(source.metadata))
    interactions = Interactions(
        Catalogue(("", *cleaned), source.domain, tuple(items.to_pylist())),
        user_of_code[events.user_E],
        item_of_code[events.item_E],
        events.time_E,
    )
    statistics = Statistics(len(users) - 1, len(items) - 1, len(events))
    differences, compared = _compare(statistics, source.domain)
    notes = (*repairs.sentences(), *said, *compared)
    identity = digest([hashed, asdict(switches)])
    dataset = make_dataset(source.name, interactions, switches.cut(), source=identity, notes=notes)
    dataset = replace(dataset, user_names=dict(enumerate(users.to_pylist())))
    return Rebuilt(dataset, statistics, users, items, _first(events, titles), differences)


def _first(events: Events, titles: dict[int, str]) -> tuple[Interaction, ...]:
    return tuple(
        Interaction(
            events.users[int(events.user_E[row])].as_py(),
            events.items[int(events.item_E[row])].as_py(),
            titles.get(int(events.item_E[row]), ""),
            int(events.time_E[row]),
        )
        for row in range(min(SHOWN, len(events)))
    )


def _simultaneous(events: Events) -> int:
    """Events that share user and time with one of another item."""
    order = np.lexsort((events.item_E, events.time_E, events.user_E))
    user, time, item = (each[order] for each in (events.user_E, events.time_E, events.item_E))
    together = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    group = np.concatenate([[0], np.cumsum(~together)])
    differs = np.bincount(group[1:], together & (item[1:] != item[:-1]), len(order)) > 0
    return int(differs[group].sum())


def number(code_E: IntArray, names: pa.Array, order: str) -> tuple[IntArray, pa.Array]:
    """Ids 1.. for the codes that occur.

    Returns:
        Id by code, int64, 0 for codes that do not occur; and name by id, with an empty entry 0.
    """
    code_C = np.unique(code_E)
    kept = names.take(pa.array(code_C))
    if order == "sorted":
        rank = _rank(kept.to_pylist())
        code_C, kept = code_C[rank], kept.take(pa.array(rank))
    id_of_code = np.zeros(len(names), np.int64)
    id_of_code[code_C] = np.arange(1, len(code_C) + 1)
    return id_of_code, pa.concat_arrays([pa.array([""]), kept])


def _rank(names: list[str]) -> IntArray:
    whole: BoolArray = np.array([name.isascii() and name.isdigit() for name in names])
    keys = [int(name) for name in names] if whole.all() else names
    return np.array(sorted(range(len(names)), key=keys.__getitem__), np.int64)


def _compare(found: Statistics, domain: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Differences from Table 4, and the sentences for the notes."""
    shown = (
        f"{found.users:,} users, {found.items:,} items, {found.interactions:,} interactions, "
        f"density {found.density_percent:.4f} %"
    )
    if domain not in TABLE_4:
        return None, (shown,)
    differences = found.differences(TABLE_4[domain])
    return differences, (shown, *(differences or (f"as Table 4 has it for {domain}",)))
