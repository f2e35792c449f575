"""``bench claims``: every published number against the line of ours that was named for it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from bench.cli._verb import add_verb
from bench.cli.board import ROWS
from bench.errors import DataError
from bench.results.places import row_folders

if TYPE_CHECKING:
    from bench.board.entry import Entry
    from bench.cell import Cell
    from bench.claims import Finding, Ours, Verdict

Value = TypeVar("Value")
ABOUT = """\
The ledger of claims: every published number (Tables 3, 5 and 6 of the MSL paper and its authors' later
update) with its interval, and the line of ours that speaks for it. Which line that is was written down before
any result (bench/claims/named.yaml: loss, tuning, decoder, reason); of several that fit, the one with fewest
departures from the paper's protocol is taken. The verdict:

  reproduced      the 90 % interval of ours / theirs lies within the margin, under the paper's protocol
  same value under another protocol
                  it does, but something departs: scale, backbone, profile, rows, recipe, or a badge
  lower, higher   the 95 % interval of the ratio excludes 1, and the other does not lie within the margin
  inconclusive    neither: too few seeds or rows to say
  depends on      the paper does not say which loss it used: all that were run are listed, with their range
  not run         no row of ours is the named line

The margin is 1.2, or the root of the published ratio that the claim is about (MSL against LML), if that is
less. Half of the last printed digit counts against every word. Other lines of ours stand beside the named one
as "k of K agree"; two lines with one and the same fit count once. Badges are facts that void a claim: code
that changed since, a temperature at its clamp in all steps, truncated histories, a teacher of few rows; and
published rows that no ranks give. Models of item ids are compared by id and language models by title, as the
paper does.

What a loss adds to a model is a claim of its own: our line over our LML line on the same rows, tested on the
difference of their logarithms (interval and p are for other users, targets and fits), then against the
published ratio by the words above (there rows are shared and only fits differ). More: docs/statistics.md,
"Claims".

  python -m bench claims                              the numbers that were run
  python -m bench claims --dataset book --all         all of Book, those not run too
  python -m bench claims --metric ndcg@10 --format csv
"""
HEADS = (
    "Claim",
    "Published",
    "Named line",
    "Ours",
    "Verdict",
    "Margin",
    "Departures",
    "Badges",
    "Others",
    "Seeds",
)


def add_parser(subparsers: Any) -> None:
    """Register the verb."""
    parser = add_verb(subparsers, "claims", "published numbers against ours", ABOUT)
    parser.add_argument("--rows", help=ROWS)
    parser.add_argument("--dataset", help="only this one: toy, book, clothing or office")
    parser.add_argument("--metric", help="only this one, e.g. ndcg@10")
    parser.add_argument("--all", action="store_true", help="also claims that were not run")
    parser.add_argument("--format", choices=("md", "csv", "tex"), default="md", help="default: md")
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print the ledger, the agreement of ranks and the checks of the published digits."""
    from bench.board.leaderboard import log_ratios, separated
    from bench.board.render import to_csv, to_latex, to_markdown
    from bench.claims import agreement, ledger
    from bench.cli._left_out import LeftOut
    from bench.paper.evidence import finished

    tables = finished(row_folders(options.rows), LeftOut())
    ours = _ours(tables)
    chosen = [
        finding
        for finding in ledger(ours)
        if options.dataset in (None, finding.claim.dataset)
        and options.metric in (None, finding.claim.metric)
    ]
    if not chosen:
        raise DataError(
            f"no claim about dataset {options.dataset!r}, metric {options.metric!r}; "
            "datasets: toy, book, clothing, office; metrics: ndcg@5, ndcg@10, hit@5, hit@10"
        )
    shown = [one for one in chosen if options.all or one.span or one.others]
    write = {"md": to_markdown, "csv": to_csv, "tex": to_latex}[options.format]
    print(write(table(shown)), end="")
    if options.format == "md":
        count = Counter(finding.word for finding in chosen)
        print("\n" + ", ".join(f"{number} {word}" for word, number in count.most_common()) + ".")
        for line in agreement(ours, _merged(tables, separated), _merged(tables, log_ratios)):
            if line.methods > 1 and options.dataset in (None, line.dataset.partition("@")[0]):
                print(
                    f"{line.dataset}, {line.board}: Kendall {line.tau:.2f} [{line.low:.2f}, {line.high:.2f}] "
                    f"over {line.methods} rows"
                )
                print("".join(f"  {effect.text}\n" for effect in line.effects), end="")
        print("\n".join(_digit_checks(options.dataset)))
    return 0


def _digit_checks(dataset: str | None) -> list[str]:
    """What the published digits allow: Hits that are no fraction, rows that no ranks give, test sizes."""
    from bench.claims import TEST_ROWS, impossible, infeasible, sizes

    said = [
        f"digit check: {' '.join(filter(None, claim.where))} {claim.metric} = {claim.value:.4f} "
        f"is no fraction of {claim.n} test rows"
        for claim in impossible()
        if dataset in (None, claim.dataset)
    ]
    said += [
        f"digit check: {' '.join(filter(None, where))}: no ranks of {TEST_ROWS[where[0]]} rows give its NDCG "
        "and Hit"
        for where in infeasible()
        if dataset in (None, where[0])
    ]
    for name in TEST_ROWS:
        if dataset in (None, name):
            fit, best, printed = sizes(name)
            said.append(
                f"digit check: {name}: {best} of {printed} Hit values fit n = {', '.join(map(str, fit))}"
            )
    return said


def _ours(tables: Sequence[Sequence[Entry]]) -> list[tuple[Cell, Mapping[str, Ours]]]:
    from bench.board.leaderboard import ours_of

    return [
        (entry.cell, metrics)
        for entries in tables
        for entry, metrics in zip(entries, ours_of(entries), strict=True)
    ]


def _merged(
    tables: Sequence[Sequence[Entry]],
    of: Callable[[Sequence[Entry]], Mapping[tuple[str, str], Value]],
) -> dict[tuple[str, str], Value]:
    """What is known of pairs of the lines that a claim is about, each table a family of its own."""
    found: dict[tuple[str, str], Value] = {}
    for entries in tables:
        claimed = [entry for entry in entries if entry.family != "floor"]
        if claimed:
            found |= of(claimed)
    return found


def table(findings: Sequence[Finding]) -> Any:
    """The ledger as a table.

    Args:
        findings: what to show, one a line.
    """
    from bench.board.render import Column, Table
    from bench.claims import interval

    columns = tuple(Column(head.lower(), head) for head in HEADS)
    lines = []
    for finding in findings:
        claim, run = finding.claim, [line for line in finding.lines if line.ours]
        low, high = interval(claim)
        agree, others = finding.agree
        where = " ".join(filter(None, (claim.table, *claim.where, claim.metric)))
        within = "; ".join(dict.fromkeys(f"{line.within:.2f}" for line in finding.lines))
        cells = (
            where,
            f"{claim.value:.4f} [{low:.4f}, {high:.4f}]",
            "; ".join(map(_cell, run)) or None,
            "; ".join(map(_value, run)) or None,
            _word(finding),
            within,
            "; ".join(dict.fromkeys(", ".join(line.differs) or "none" for line in run)) or None,
            ", ".join(finding.badges) or None,
            f"{agree} of {others} agree" if others else None,
            finding.spread.text if finding.spread else None,
        )
        lines.append(dict(zip((column.key for column in columns), cells, strict=True)))
    return Table("Claims", columns, (("", tuple(lines)),))


def _word(finding: Finding) -> str:
    """The verdict; where it depends on the loss, the range and what each loss came to."""
    if finding.word != "depends on" or finding.span is None:
        return finding.word
    low, high = finding.span
    forks = ", ".join(f"{_loss(line)}: {line.word}" for line in finding.lines)
    return f"depends on the loss, {low:.4f} to {high:.4f} ({forks})"


def _loss(line: Verdict) -> str:
    return str(line.ours.cell.loss) if line.ours else ""


def _cell(line: Verdict) -> str:
    assert line.ours, "a line that was run"
    cell = line.ours.cell
    return f"{cell.name} ({cell.scale}, {cell.profile})"


def _value(line: Verdict) -> str:
    assert line.ours, "a line that was run"
    ours = line.ours
    return f"{ours.mean:.4f} [{max(ours.low, 0):.4f}, {ours.high:.4f}]"
