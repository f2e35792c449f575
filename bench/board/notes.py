"""What stands above a table: everything a reader has to know before comparing two of its lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.board.entry import Entry
from bench.board.leaderboard import RHO, Leaderboard
from bench.board.table_numbers import BY_ID
from bench.claims.paper import CARVED


def notes(leaderboard: Leaderboard) -> tuple[str, ...]:
    """Everything a reader has to know before comparing two lines."""
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
    told += _caveats(leaderboard)
    told.append(f"rows of {_range(dates)}; commits {', '.join(commits) or 'unknown'}")
    return tuple(told)


def _caveats(leaderboard: Leaderboard) -> list[str]:
    """What the numbers of a table do and do not say."""
    told, entries = [], [line.entry for line in leaderboard.scored]
    if leaderboard.key.dataset in CARVED:
        done = "is held out for it" if leaderboard.key.profile == "corrected" else "stays in train"
        told.append(f"no validation windows are published, the last eighth of train.csv {done}")
    if leaderboard.cold_share is not None:
        cold = leaderboard.cold_share
        told.append(
            f"cold share {100 * cold:.1f} % of test targets occur nowhere in the training split; ceiling of "
            f"a model that only knows its items: Hit {100 * (1 - cold):.1f} %, lower for lines with fewer "
            "train rows"
        )
    if leaderboard.gap is not None:
        told.append(
            f"one comparison with the first line, uncorrected, finds a gap of {leaderboard.gap:.4f} NDCG@10 "
            f"four times in five (correlation {RHO}); ranks are corrected for all pairs and need more"
        )
    told.append(
        "ranks: all pairs, paired bootstrap of NDCG@10 over users (and seeds where there are several), Holm "
        "over all pairs of the table; 1-3 (tied) = nothing certain within these ranks"
    )
    if any(len(entry.done) == 1 and entry.family != "floor" for entry in entries):
        told.append(
            "lines with one seed: intervals and ranks cover the test users, not training's luck"
        )
    if any(row.facts.get("selected_on") == "test" for entry in entries for row in entry.done):
        told.append("epochs were chosen on the test rows, as in the released code: a best case")
    if any(line.verdict and line.entry.family in BY_ID for line in leaderboard.scored):
        told.append(
            "verdicts compare traditional and enhanced models by id, as the paper does: column NDCG@10 by id"
        )
    told += _audited(entries)
    mixed = sorted(entry.full_name for entry in entries if entry.mixed)
    told += [f"seeds made by different versions of the code: {', '.join(mixed)}"] * bool(mixed)
    return told


def _audited(entries: Sequence[Entry]) -> list[str]:
    """What the audit of the beams measures, and on how many users of a run."""
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
