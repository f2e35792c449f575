"""``bench compare A B``: is the difference of two configurations real?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.cell import HEADLINE
from bench.cli._verb import add_verb
from bench.cli.board import ROWS, existing_folders
from bench.errors import DataError, UnknownName
from bench.questions.find import Found, matching
from bench.results.places import PUBLISHED

if TYPE_CHECKING:
    from bench.board.entry import Entry
    from bench.evaluation.metrics import Positions
    from bench.significance.estimate import Estimate
    from bench.significance.intervals import Difference
    from bench.types import BoolArray

ABOUT = """\
The paired difference of two configurations on the same queries, for other users, target titles and fits: 95 %
interval, two-sided p, effect size, where its variance comes from, and what gap these rows could show at all.

A and B are names as tables and logs give them (with or without @key), the key of any seed, or any part of a
label that fits one configuration; all its seeds are compared:

  python -m bench compare book/sasrec+ce book/bigrec+msl_ats
  python -m bench compare 3f0a1b2c4d5e6f70 book/markov --metric hit@10
  python -m bench compare office/bert4rec office/bigrec+lml --stratum cold --scale small
  python -m bench compare book/last_item_text book/sasrec+ce --one-way     for these targets only
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = add_verb(subparsers, "compare", "paired difference of two configurations", ABOUT)
    parser.add_argument("a", metavar="A", help="label, part of a label, or key")
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument("--rows", help=ROWS)
    parser.add_argument(
        "--metric",
        default=HEADLINE,
        help="a registered metric of positions @ 1 to 10, e.g. mrr@5 (default: %(default)s)",
    )
    parser.add_argument("--plugin", action="append", default=[], help="a file that registers more")
    parser.add_argument("--stratum", help="only these queries: cold, warm, head, tail ...")
    parser.add_argument(
        "--one-way", action="store_true", help="for these targets only: other users and fits"
    )
    parser.add_argument("--scale", help="only rows of this scale")
    parser.add_argument(
        "--profile", help="only rows of this profile (default: corrected where a label fits both)"
    )
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print the comparison."""
    import numpy as np

    from bench.board.entry import gain_by_seed, mean_luck
    from bench.board.table_numbers import targets_of
    from bench.evaluation.metrics import weights
    from bench.registry import load_plugins
    from bench.significance.two_way import two_way

    load_plugins(options.plugin)
    weights(options.metric)  # a name that is not known is told before rows are read
    entries = _entries(options)
    a, b = (_find(word, entries, options.profile) for word in (options.a, options.b))
    _check_same_queries(a, b)
    keep = _mask(a, options.stratum)
    if not np.array_equal(keep, _mask(b, options.stratum)):
        raise DataError(
            f"stratum {options.stratum} holds other queries for {_label(a)} than for {_label(b)}, as they "
            "were trained on different rows; compare them without --stratum"
        )
    kept = [_positions(entry, keep) for entry in (a, b)]
    gain_MSQ = [gain_by_seed(positions, options.metric) for positions in kept]
    luck_M = [mean_luck(positions, options.metric) for positions in kept]
    target_Q = targets_of((a, b))
    table = two_way(
        gain_MSQ,
        a.user_Q[keep],
        None if target_Q is None else target_Q[keep],
        luck_M=luck_M,
        chance_M=[entry.family != "floor" for entry in (a, b)],
        names=[_label(entry) for entry in (a, b)],
    )
    table = table.one_way if options.one_way else table
    titles = "" if table.titles is None else f", {len(table.titles)} target titles"
    where = f" of stratum {options.stratum}" if options.stratum else ""
    print(f"{options.metric} over {table.n} test rows{where}, {len(table.users)} users{titles}")
    for m, (side, entry) in enumerate((("A", a), ("B", b))):
        interval = table.mean(m)
        print(
            f"  {side}  {interval.mean:.4f} [{interval.low:.4f}, {interval.high:.4f}]  {_label(entry)}, "
            f"{len(entry.done)} seed(s), {entry.cell.scale} {entry.cell.profile}"
            + (f"; {interval.note}" if interval.note else "")
        )
    found = table.difference(0, 1)
    for line in (*_difference(found), *_power(table, found), *_departures(a, b)):
        print(f"  {line}")
    print("One comparison, uncorrected; the ranks of the tables are corrected for all pairs.")
    return 0


def _difference(found: Difference) -> Iterator[str]:
    """The gap and what it says, a line each."""
    yield (
        f"A - B  {found.gap:+.4f} [{found.low:+.4f}, {found.high:+.4f}]  p {_p(found.p)}, "
        f"{found.words}" + (f"; {found.note}" if found.note else "")
    )
    yield f"effect {found.effect:+.3f} standard deviations of the per-user difference"
    if found.se > 0:
        shares = ", ".join(
            f"{name} {100 * part / found.se**2:.0f} %" for name, part in found.parts.items() if part
        )
        yield f"standard error {found.se:.4f} ({found.df:.0f} degrees of freedom): {shares} of its square"


def _power(table: Estimate, found: Difference) -> Iterator[str]:
    """Which gaps could be found, and what it takes to find the one there is."""
    from bench.significance.power import detectable_gap, more_rows, more_seeds

    if found.se <= 0:
        return
    yield f"power: gaps from {detectable_gap(found.se):.4f} are found four times in five"
    if found.gap:
        rows, seeds = (more(table, (0, 1), found.gap) for more in (more_rows, more_seeds))
        told = [f"{rows.number:,} rows" if rows.number else f"{rows.lacks}, however many rows"]
        if found.parts["fits"]:
            lacks = f"{seeds.lacks}, however many seeds"
            told.append(f"{seeds.number} seeds each" if seeds.number else lacks)
        yield f"a gap of {abs(found.gap):.4f} needs {', or '.join(told)}"


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


def _check_same_queries(a: Entry, b: Entry) -> None:
    for word, of_a, of_b in _differing(a, b, ("dataset", "data_version")):
        raise DataError(f"{_label(a)} has {word} {of_a} and {_label(b)} {of_b}: nothing is paired")
    if len({figures.users for entry in (a, b) for figures in entry.figures}) > 1:
        raise DataError(f"{_label(a)} and {_label(b)} were examined on different queries")


def _departures(a: Entry, b: Entry) -> Iterator[str]:
    """What keeps the two out of one table, a phrase each."""
    for word, of_a, of_b in _differing(a, b, ("scale", "profile", "protocol")):
        yield f"not alike: A has {word} {of_a}, B has {word} {of_b}; no table holds both"


def _differing(a: Entry, b: Entry, parts: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """The parts of two cells that differ, in words, with both values."""
    for part in parts:
        of_a, of_b = getattr(a.cell, part), getattr(b.cell, part)
        if of_a != of_b:
            yield part.replace("_", " "), of_a, of_b


def _label(entry: Entry) -> str:
    return entry.cell.label.rpartition("#")[0]


def _keys(entry: Entry) -> list[str]:
    return [row.cell.key for row in entry.rows]


def _positions(entry: Entry, keep: BoolArray) -> list[Positions]:
    return [positions.take(keep) for positions in entry.positions()]


def _mask(entry: Entry, stratum: str | None) -> Any:
    import numpy as np

    if stratum is None:
        return np.ones(entry.n, bool)
    masks = entry.first_packed.masks
    if stratum not in masks or not masks[stratum].any():
        known = ", ".join(name for name, mask in masks.items() if mask.any())
        raise UnknownName(f"no test row is in a stratum called {stratum!r}; known: {known}")
    return masks[stratum]


def _entries(options: argparse.Namespace) -> list[Entry]:
    """Every finished configuration that the options leave."""
    from bench.board.rows import read_folders, tables_of
    from bench.cli._left_out import LeftOut
    from bench.results.cache import Cache

    folders, left_out = existing_folders(options.rows), LeftOut()
    pairs = [
        (path, row)
        for path, row in read_folders(folders, left_out)
        if row.status == "done"
        and options.scale in (None, row.cell.scale)
        and options.profile in (None, row.cell.profile)
    ]
    return [
        entry
        for table in tables_of(pairs, Cache.beside(folders[0]), PUBLISHED, left_out).values()
        for entry in table
    ]


def _find(word: str, entries: Sequence[Entry], profile: str | None) -> Entry:
    """The one configuration that a label, a part of one, or a key means."""
    rows = {
        row.cell.key: Found(path, row)
        for e in entries
        for path, row in zip(e.paths, e.done, strict=True)
    }
    keys = {found.cell.key for found in matching(word, list(rows.values()))}
    near = [entry for entry in entries if not keys.isdisjoint(_keys(entry))]
    if len(near) > 1 and profile is None:  # a label alone means the usual protocol
        near = [entry for entry in near if entry.cell.profile == "corrected"] or near
    if len(near) == 1:
        return near[0]
    listed = near or entries
    several = "\n  ".join(
        f"{_label(entry)}  {replace(entry.cell, seed=0).slot}  key {entry.cell.key}  "
        f"{entry.cell.scale} {entry.cell.profile}"
        for entry in listed[:20]
    )
    what = "means several configurations" if near else "means no finished configuration"
    raise UnknownName(f"{word!r} {what}; give a key, --scale or --profile. There are:\n  {several}")
