"""When the adaptive temperature adapts: the gap of logits it needs, and the gaps that were seen.

Eq. 12 gives tau from ``C tau^2 - d tau + s2 / 2 = 0`` with d the target's logit above the mean valid one, s2
the variance of the valid logits and C = ln(m eta), a negative discriminant counting as zero. So tau lies
within its clamp only while d lies between the gaps that its two ends need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from bench.board.render import Cells, Table
from bench.paper.data_tables import MEASURE
from bench.paper.evidence import Evidence, Line
from bench.paper.piece import Piece, columns

ETA, CLAMP = 0.25, (1.5, 5.0)  # the authors'
NONE = "m eta is at most 1: no temperature"


def needed(m: float, tau: float, variance: float = 0.0, eta: float = ETA) -> float | None:
    """The gap d at which Eq. 12 gives ``tau``; None where m * eta is at most 1.

    ``C tau + s2 / (2 tau)``, or ``2 C tau`` where s2 is above ``2 C tau^2``: no root is that small then, and
    the discriminant counts as zero.

    Args:
        m: number of valid tokens.
        tau: the temperature.
        variance: s2, of the valid logits.
        eta: share of probability that the target is meant to have.
    """
    if m * eta <= 1:
        return None
    bound = math.log(m * eta)
    floored = variance > 2 * bound * tau * tau
    return 2 * bound * tau if floored else bound * tau + variance / (2 * tau)


def formula(m: float, gap: float, variance: float, eta: float = ETA) -> float | None:
    """Eq. 12 without a clamp; None where m * eta is at most 1.

    Args:
        m: number of valid tokens.
        gap: d.
        variance: s2.
        eta: share of probability that the target is meant to have.
    """
    if m * eta <= 1:
        return None
    bound = math.log(m * eta)
    return (gap + math.sqrt(max(0.0, gap * gap - 2 * bound * variance))) / (2 * bound)


def adaptive(evidence: Evidence) -> Piece:
    """The table of needed and seen gaps."""
    lines = [*_tries(evidence), *_seen(evidence)]
    names = {
        **{"dataset": "Dataset", "tokens": "Tokens", "m": "m", "bound": "C = ln(m eta)"},
        **{
            "low": "Gap for tau 1.5",
            "high": "Gap for tau 5",
            "gap": "Gap seen",
            "variance": "s2 seen",
        },
        **{"found": "Eq. 12", "clamped": "Steps at the clamp"},
    }
    notes = (
        "The gap is the target's logit above the mean valid one. Without a measurement s2 is 0; with one the "
        "needed gaps are those at the last s2. Seen: first look, middle, last.",
        "corrected: m is the average number of valid tokens (as the paper says). released: m is the fan-out "
        "of the root (as the authors' code does).",
    )
    cells: tuple[Cells, ...] = tuple(lines)
    table = Table("When the adaptive temperature adapts", columns(names), (("", cells),), notes)
    made = "" if evidence.tries else MEASURE
    return Piece("adaptive", table.title, table, command=made, have=len(lines), all=len(lines) or 1)


def _tries(evidence: Evidence) -> Iterator[dict[str, Any]]:
    for dataset, own in evidence.tries.items():
        for name, trie in {"Llama 3": own, **own.get("other_tokens", {})}.items():
            for form, m in (("corrected", trie["avt"]), ("released", trie["root"])):
                line = {"dataset": dataset, "tokens": f"{name}, {form}"}
                yield line | dict(_range(m, 0.0, ETA, CLAMP))


def _seen(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """What the microscope saw of trainings with the adaptive temperature."""
    for lines in evidence.settings.values():
        for line in lines:
            if line.looks and line.cell.loss == "msl_ats":
                yield _measured(line)


def _measured(line: Line) -> dict[str, Any]:
    facts, looks, options = line.row.facts, line.looks, line.options
    m, eta = float(facts["ats_m"]), float(options.get("eta", ETA))
    low, high = options.get("clamp", CLAMP)
    three = [looks[0], looks[len(looks) // 2], looks[-1]]
    found = [formula(m, look["gap"], look["variance"], eta) for look in three]
    return {
        "dataset": line.cell.dataset,
        "tokens": f"{line.cell.backbone}, clamp {low:g} to {high:g}",
        **_range(m, float(looks[-1]["variance"]), eta, CLAMP),
        "gap": _arrows([look["gap"] for look in three]),
        "variance": _arrows([look["variance"] for look in three]),
        "found": _arrows([value for value in found if value is not None]),
        "clamped": f"{100 * float(facts.get('ats_clamped', 0.0)):.0f} %",
    }


def _range(m: float, variance: float, eta: float, clamp: tuple[float, float]) -> Mapping[str, Any]:
    ends = [needed(m, tau, variance, eta) for tau in clamp]
    said = [NONE if end is None else f"{end:.2f}" for end in ends]
    bound = math.log(m * eta)
    return {"m": f"{m:.2f}", "bound": f"{bound:.2f}", "low": said[0], "high": said[1]}


def _arrows(values: list[float]) -> str:
    return " → ".join(f"{value:.2f}" for value in values)
