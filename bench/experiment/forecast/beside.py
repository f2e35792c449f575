"""What was foretold beside what cells took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.cell import Row
from bench.experiment.forecast.known import Known

NEAR = 0.3  # by which a good forecast is off at most, as a share of it


@dataclass(frozen=True)
class Beside:
    """Some finished cells of which something was foretold.

    Attributes:
        cells: how many.
        near: those whose time is within 30 % of what was foretold.
        inside: those whose time lies in the interval.
        predicted, seconds: their times together, as foretold and as they were.
        alone: the same without what cells on one CPU thread waited for others to leave their core.
    """

    cells: int
    near: int
    inside: int
    predicted: float
    seconds: float
    alone: float


def beside(rows: Sequence[Row]) -> Beside | None:
    """Compare; None if nothing was foretold of any of them, or all were finished by several attempts."""
    found = [
        (
            row.provenance["predicted_seconds"],
            row.provenance["wall_seconds"],
            Known(row, "own rows"),
        )
        for row in rows
        if row.status == "done"
        and {"predicted_seconds", "wall_seconds"} <= row.provenance.keys()
        and row.facts.get("attempts", 1) == 1
    ]
    if not found:
        return None
    return Beside(
        cells=len(found),
        near=sum(abs(took - told[0]) <= NEAR * told[0] for told, took, _ in found),
        inside=sum(told[1] <= took <= told[2] for told, took, _ in found),
        predicted=sum(told[0] for told, _, _ in found),
        seconds=sum(took for _, took, _ in found),
        alone=sum(known.seconds for _, _, known in found),
    )
