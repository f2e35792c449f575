"""The Improvement lines of Table 5: MSL+ATS over the better of LML and S-DPO with the same method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.cell import Cell
from bench.claims import Finding, Ours
from bench.paper.evidence import Evidence
from bench.paper.piece import NOT_RUN

MSL, OTHERS = "msl_ats", ("lml", "s_dpo")


@dataclass(frozen=True)
class Improvement:
    """How much higher MSL+ATS is, as a share.

    Attributes:
        published: by the paper's numbers.
        ours: by ours; None if it cannot be told.
        text: ours in words.
    """

    published: float
    ours: float | None
    text: str


def improvements(evidence: Evidence, metric: str) -> dict[tuple[str, str], Improvement]:
    """By dataset and method.

    Args:
        evidence: our lines.
        metric: ``ndcg@10`` ...
    """
    groups: dict[tuple[str, str], dict[str, Finding]] = {}
    for finding in evidence.findings:
        claim = finding.claim
        if (claim.table, claim.metric) == ("table5", metric) and claim.loss:
            groups.setdefault((claim.dataset, claim.method), {})[claim.loss] = finding
    return {where: _improvement(by_loss) for where, by_loss in groups.items()}


def _improvement(by_loss: Mapping[str, Finding]) -> Improvement:
    printed = {loss: finding.claim.value for loss, finding in by_loss.items()}
    theirs = printed[MSL] / max(printed[loss] for loss in OTHERS) - 1
    ours: dict[str, Ours] = {}
    for loss, finding in by_loss.items():
        if (one := finding.lines[0].ours) is not None:
            ours[loss] = one
    if MSL not in ours or len(ours) < 2:
        return Improvement(theirs, None, NOT_RUN)
    apart = sorted({loss for loss in ours if _size(ours[loss].cell) != _size(ours[MSL].cell)})
    if apart:
        return Improvement(theirs, None, f"not comparable: {', '.join(apart)} ran elsewhere")
    best = max(ours[loss].mean for loss in OTHERS if loss in ours)
    if best <= 0:
        return Improvement(theirs, None, "over nothing: the others hit no target")
    found = ours[MSL].mean / best - 1
    lacking = [loss for loss in OTHERS if loss not in ours]
    said = f" ({', '.join(lacking)} not run)" if lacking else ""
    return Improvement(theirs, found, f"{100 * found:.1f} %{said}")


def _size(cell: Cell) -> tuple[object, ...]:
    return cell.backbone, cell.decoder, cell.train_rows, cell.test_rows, cell.scale, cell.profile
