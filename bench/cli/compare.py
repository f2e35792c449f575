"""``bench compare A B``: is the difference of two configurations real?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.cell import HEADLINE
from bench.errors import DataError, UnknownName

if TYPE_CHECKING:
    from bench.board.entry import Entry
    from bench.evaluation.metrics import Positions
    from bench.significance.bootstrap import Difference
    from bench.types import BoolArray

ABOUT = """\
The paired difference of two configurations on the same queries: bootstrap over users (and seeds where there
are several), 95 % interval, two-sided p, effect size, and what gap this many queries could show at all.

A and B are labels as tables and logs give them, the key of any seed, or any part of a label that fits one
configuration; all its seeds are compared:

  python -m bench compare book/sasrec+ce book/bigrec+msl_ats
  python -m bench compare 3f0a1b2c4d5e6f70 book/markov --metric hit@10
  python -m bench compare office/bert4rec office/bigrec+lml --stratum cold --scale small
"""


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = subparsers.add_parser(
        "compare",
        help="paired difference of two configurations",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="label, part of a label, or key")
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument(
        "--rows", default="leaderboards/rows", help="folder of rows (default: %(default)s)"
    )
    parser.add_argument(
        "--metric",
        default=HEADLINE,
        help="a registered metric of positions @ 1 to 10, e.g. mrr@5 (default: %(default)s)",
    )
    parser.add_argument("--plugin", action="append", default=[], help="a file that registers more")
    parser.add_argument("--stratum", help="only these queries: cold, warm, head, tail ...")
    parser.add_argument("--scale", help="only rows of this scale")
    parser.add_argument(
        "--profile", help="only rows of this profile (default: corrected where a label fits both)"
    )
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print the comparison."""
    import numpy as np

    from bench.board.entry import gain_by_seed, mean_luck
    from bench.evaluation.metrics import weights
    from bench.registry import load_plugins
    from bench.significance.bootstrap import resample
    from bench.significance.power import detectable_gap

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
    draws = resample(gain_MSQ, a.user_Q[keep], luck_M=luck_M)
    found = draws.difference(0, 1)
    n = int(keep.sum())
    where = f" of stratum {options.stratum}" if options.stratum else ""
    print(f"{options.metric} over {n} test rows{where}, {len(draws.user_UM)} users")
    for m, (side, entry) in enumerate((("A", a), ("B", b))):
        low, high = draws.interval(m)
        print(
            f"  {side}  {draws.mean_M[m]:.4f} [{max(low, 0):.4f}, {min(high, 1):.4f}]  {_label(entry)}, "
            f"{len(entry.done)} seed(s), {entry.cell.scale} {entry.cell.profile}"
        )
    print(f"  A - B  {found.gap:+.4f} [{found.low:+.4f}, {found.high:+.4f}]  p {_p(found.p)}")
    print(f"  effect {found.effect:+.3f} standard deviations of the per-user difference")
    if found.se > 0:
        least = f"gaps from {detectable_gap(found.se):.4f} are found four times in five"
        print(f"  power: {least}{_rows_for(found, n)}")
    for line in _departures(a, b):
        print(f"  not alike: {line}")
    print("One comparison, uncorrected; the ranks of the tables are corrected for all pairs.")
    return 0


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


def _rows_for(found: Difference, n: int) -> str:
    from bench.significance.power import rows_needed

    if not found.gap:
        return ""
    rows = rows_needed(found.gap, n, found.se, found.seed_se)
    needed = f"needs {rows:,} rows" if rows else "needs more seeds, however many rows"
    return f"; a gap of {abs(found.gap):.4f} {needed}"


def _check_same_queries(a: Entry, b: Entry) -> None:
    for word, of_a, of_b in _differing(a, b, ("dataset", "data_version")):
        raise DataError(f"{_label(a)} has {word} {of_a} and {_label(b)} {of_b}: nothing is paired")
    if len({figures.users for entry in (a, b) for figures in entry.figures}) > 1:
        raise DataError(f"{_label(a)} and {_label(b)} were examined on different queries")


def _departures(a: Entry, b: Entry) -> Iterator[str]:
    """What keeps the two out of one table, a phrase each."""
    for word, of_a, of_b in _differing(a, b, ("scale", "profile", "protocol")):
        yield f"A has {word} {of_a}, B has {word} {of_b}; no table holds both"


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
    from bench.board.rows import read_folder, tables_of
    from bench.cli.board import existing
    from bench.results.cache import Cache

    rows = existing(options.rows)
    pairs = [
        (path, row)
        for path, row in read_folder(rows)
        if row.status == "done"
        and options.scale in (None, row.cell.scale)
        and options.profile in (None, row.cell.profile)
    ]
    return [entry for table in tables_of(pairs, Cache.beside(rows)).values() for entry in table]


def _find(word: str, entries: Sequence[Entry], profile: str | None) -> Entry:
    """The one configuration that a label, a part of one, or a key means."""
    keyed = [e for e in entries if len(word) >= 6 and any(k.startswith(word) for k in _keys(e))]
    exact = keyed or [e for e in entries if word in (_label(e), e.cell.label)]
    near = exact or [entry for entry in entries if word in _label(entry)]
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
