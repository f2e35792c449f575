"""The notes above a table: what a reader has to know before comparing two of its lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.board.entry import Entry
from bench.board.leaderboard import Leaderboard
from bench.board.reach import reach
from bench.board.table_numbers import BY_ID
from bench.claims.paper import CARVED
from bench.experiment.suite import warning_of
from bench.results.badges import CODE_CHANGED


def notes(leaderboard: Leaderboard) -> tuple[str, ...]:
    """The notes of a table, one sentence or paragraph each."""
    key = leaderboard.key
    rows = [row for line in leaderboard.lines for row in line.entry.rows]
    dates = sorted({str(row.provenance["date"])[:10] for row in rows if row.provenance.get("date")})
    commits = sorted({_commit(row.provenance) for row in rows if row.provenance.get("commit")})
    seeds = sorted({row.cell.seed for line in leaderboard.scored for row in line.entry.done})
    cap = f"a fixed sample of {key.test_rows}" if key.test_rows else "all"
    told = [
        f"scale {key.scale}, profile {key.profile}, protocol {key.protocol}, "
        f"dataset version {key.data_version[:12] or 'unknown'}",
        f"n = {leaderboard.n} test rows ({cap}), seeds {', '.join(map(str, seeds)) or 'none'}; "
        "several seeds of one configuration are averaged",
    ]
    if warning := warning_of(key.scale):
        told.append(f"scale {key.scale}: {warning}")
    if any(line.entry.published for line in leaderboard.lines):
        told.append("lines marked published are of rows that came with the repository")
    told += _caveats(leaderboard)
    told.append(f"rows of {_range(dates)}; commits {', '.join(commits) or 'unknown'}")
    return tuple(told)


def _caveats(leaderboard: Leaderboard) -> list[str]:
    """Notes on what the numbers of a table do and do not show."""
    told, entries = [], [line.entry for line in leaderboard.scored]
    if leaderboard.key.dataset in CARVED:
        done = "is held out for it" if leaderboard.key.profile == "corrected" else "stays in train"
        told.append(f"no validation windows are published, the last eighth of train.csv {done}")
    told += reach(leaderboard)
    if leaderboard.gaps is not None:
        one, every = leaderboard.gaps
        told.append(
            f"power: of the middle pair a true gap of {one:.4f} NDCG@10 is found four times in five where it "
            f"is the only comparison, of {every:.4f} where it is one of all pairs, as for the ranks"
        )
    told += _scope(leaderboard)
    if any(row.facts.get("selected_on") == "test" for entry in entries for row in entry.done):
        told.append("epochs were chosen on the test rows, as in the released code: a best case")
    if any(line.verdict and line.entry.family in BY_ID for line in leaderboard.scored):
        told.append(
            "verdicts compare traditional and enhanced models by id, as the paper does: column NDCG@10 by id"
        )
    told += _audited(entries)
    marked = [entry for entry in entries if CODE_CHANGED in entry.badges]
    if marked:
        told.append(
            f"badge {CODE_CHANGED!r} on {len(marked)} of {len(entries)} lines: the source behind them is "
            "another today; their versions are the same, which pinned runs guard"
        )
    mixed = sorted(entry.full_name for entry in entries if entry.mixed)
    told += [f"seeds made by different versions of the code: {', '.join(mixed)}"] * bool(mixed)
    return told


def _scope(leaderboard: Leaderboard) -> list[str]:
    """The note on which users, targets and fits the intervals and ranks hold for."""
    if leaderboard.numbers is None:
        return []
    known = len(leaderboard.numbers.stands.hit_M)
    drawn = "users, target titles and fits" if known else "users and fits"
    told = [
        f"intervals and ranks hold for other {drawn}; Holm over all pairs of the table, 1-3 (tied) = nothing "
        "certain within these ranks (docs/statistics.md)"
    ]
    if not known:
        told.append("the rows do not name their targets: all is said of these targets only")
    return told


def _audited(entries: Sequence[Entry]) -> list[str]:
    """The note on the audit of beam search, with its number of users."""
    rows = [row for entry in entries for row in entry.done if "beam_regret" in row.facts]
    if not rows:
        return []
    users = sorted(int(row.facts["audited"]) for row in rows)
    many = str(users[0]) if users[0] == users[-1] else f"{users[0]} to {users[-1]}"
    return [
        "exact list missed by beams: share of the model's exact ten best titles that its beam search did not "
        f"list, mean over {many} audited users a run, those whose exact list is proven; no loss of NDCG"
    ]


def _commit(provenance: Any) -> str:
    return f"{provenance['commit']}{' with changes' if provenance.get('dirty') else ''}"


def _range(dates: Sequence[str]) -> str:
    if not dates:
        return "unknown date"
    return dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
