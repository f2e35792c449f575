"""Figures 3, 4, 5 and 8, and the course of the temperature: what the microscope saw of trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench.paper.draw import Chart, Curve
from bench.paper.evidence import Evidence, Line
from bench.paper.piece import DRAWN, Piece, command, drawn

RECORD = command("temperature", "--microscope --reuse never")
WEIGHT_OF = {"lml": "whole", "lml_tau": "whole", "msl": "valid"}  # the others have a temperature
SPAN = 4.0  # standard deviations that the histogram of logits covers
STEP = "training step"


def figure3(evidence: Evidence) -> Piece:
    """Norms of the gradients of LML's two parts."""

    def curves(lines: Sequence[Line]) -> list[Curve]:
        return [
            Curve(name, _series(line.looks, key))
            for line in _seen(lines, "lml")
            for key, name in (
                ("first_norm", "first part: valid above invalid tokens"),
                ("second_norm", "second part: target above valid tokens"),
            )
        ]

    about = (
        "Norm of the gradient, over all trained weights, of each part's mean over the answer tokens of a "
        "fixed sample of training rows: LML = -log P(valid) - log P(target | valid)."
    )
    return _figure(
        evidence, "figure3", "Figure 3: gradient norms of LML's two parts", about, curves,
        Chart("", STEP, "gradient norm", (), "y"),
    )  # fmt: skip


def figure4(evidence: Evidence) -> Piece:
    """The second part while LML is trained, and while it is trained by itself."""

    def curves(lines: Sequence[Line]) -> list[Curve]:
        names = {"lml": "trained with both parts (LML)", "msl": "trained by itself (MSL)"}
        found = {loss: _seen(lines, loss) for loss in names}
        if not all(found.values()):
            return []
        return [Curve(names[loss], _series(found[loss][0].looks, "second")) for loss in names]

    about = "Mean of the second part over the answer tokens of a fixed sample of training rows."
    return _figure(
        evidence, "figure4", "Figure 4: the second part of LML, under LML and by itself", about, curves,
        Chart("", STEP, "second part", ()),
    )  # fmt: skip


def figure5(evidence: Evidence) -> Piece:
    """The weights 1 - P, sorted."""

    def curves(lines: Sequence[Line]) -> list[Curve]:
        found = []
        for line in _seen(lines):
            weight = _pictures(line)[-1]["weights"] if _pictures(line) else {}
            values = weight.get(WEIGHT_OF.get(line.cell.loss or "", "tau"), ())
            steps = max(len(values) - 1, 1)
            points = tuple((at / steps, value) for at, value in enumerate(values))
            found.append(Curve(_loss(line), points))
        return found

    about = (
        "What each position's gradient is weighted by at the last look, in ascending order: P over the "
        "vocabulary under LML, over the valid tokens at the temperature in force under the others; positions "
        "with a choice only."
    )
    return _figure(
        evidence, "figure5", "Figure 5: weights 1 - P, sorted", about, curves,
        Chart("", "share of the positions", "1 - P", ()),
    )  # fmt: skip


def figure8(evidence: Evidence) -> Piece:
    """Valid logits with a normal curve."""

    def curves(lines: Sequence[Line]) -> list[Curve]:
        found = []
        for line in _seen(lines):
            count = _pictures(line)[-1]["logits"]["count"] if _pictures(line) else []
            if total := sum(count):
                width = 2 * SPAN / len(count)
                points = [
                    (-SPAN + (at + 0.5) * width, n / total / width) for at, n in enumerate(count)
                ]
                found.append(Curve(_loss(line), tuple(points)))
        grid = [SPAN * (at - 40) / 40 for at in range(81)]
        normal = tuple((x, math.exp(-x * x / 2) / math.sqrt(2 * math.pi)) for x in grid)
        return [*found, Curve("normal", normal)] if found else []

    about = (
        "Valid logits at the last look, centred and scaled within each position (positions with four valid "
        "tokens or more; what lies beyond four deviations is in the outer bins)."
    )
    return _figure(
        evidence, "figure8", "Figure 8: valid logits with the Gaussian fit", about, curves,
        Chart("", "standard deviations from the mean", "density", ()),
    )  # fmt: skip


def temperature(evidence: Evidence) -> Piece:
    """Temperature in force and what Eq. 12 gave before the clamp."""

    def curves(lines: Sequence[Line]) -> list[Curve]:
        found = []
        for line in _seen(lines, "msl_ats"):
            low, high = line.options.get("clamp", (0.0, 0.0))
            name = f"clamp {low:g} to {high:g}"
            found.append(Curve(f"in force, {name}", _series(line.course, "tau")))
            found.append(Curve(f"Eq. 12, {name}", _series(line.course, "tau_unclamped")))
        return found

    about = (
        "Not in the paper: the temperature of MSL+ATS by step, as it is in force (moving average of clamped "
        "values) and as Eq. 12 gives it for the latest batch. What is not positive is not drawn."
    )
    return _figure(
        evidence, "temperature", "The adaptive temperature by step", about, curves,
        Chart("", STEP, "temperature", (), "y"), published="",
    )  # fmt: skip


def _figure(
    evidence: Evidence,
    name: str,
    title: str,
    about: str,
    curves: Callable[[Sequence[Line]], list[Curve]],
    like: Chart,
    published: str = DRAWN,
) -> Piece:
    """A figure with one chart for each setting that has its curves."""
    charts: dict[str, Chart] = {}
    for setting, lines in evidence.settings.items():
        if found := curves(lines):
            cell = lines[0].cell
            head = f"{title.partition(': ')[2] or title}; {lines[0].where}"
            suffix = f"-{cell.dataset}-{cell.backbone}-{setting}"
            charts[suffix] = Chart(head, like.across, like.up, tuple(found), like.log)
    return drawn(name, title, charts, tuple(filter(None, (about, published))), RECORD)


def _seen(lines: Iterable[Line], loss: str | None = None) -> list[Line]:
    """The lines with a record, of one loss or of all."""
    return [line for line in lines if line.looks and loss in (None, line.cell.loss)]


def _series(seen: Sequence[Mapping[str, Any]], key: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(one["step"]), float(one[key])) for one in seen if key in one)


def _pictures(line: Line) -> list[Mapping[str, Any]]:
    return [look for look in line.looks if "weights" in look]


def _loss(line: Line) -> str:
    """The loss with those of its options that tell lines apart."""
    told = [f"tau {line.options['tau']:g}"] if "tau" in line.options else []
    if "clamp" in line.options:
        low, high = line.options["clamp"]
        told.append(f"clamp {low:g} to {high:g}")
    return f"{line.cell.loss} ({', '.join(told)})" if told else str(line.cell.loss)
