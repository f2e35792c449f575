"""Figures 6 and 7: accuracy by temperature, and accuracy against the time of an epoch."""

from __future__ import annotations

from bench.cell import HEADLINE, SELECT_BY
from bench.paper.draw import Chart, Curve
from bench.paper.evidence import Evidence, Line
from bench.paper.piece import Piece, command, drawn
from bench.results.figures import VALID

TAUS = {"toy": 4.5, "book": 1.5, "clothing": 4.0, "office": 3.0}  # the authors' best
FASTER = "The paper has MSL 4.4 % and 6.7 % faster than LML and 315 % and 324 % faster than S-DPO."
LEAST = 3  # temperatures that make a sweep


def figure6(evidence: Evidence) -> Piece:
    """NDCG@10 of MSL by its temperature."""
    charts: dict[str, Chart] = {}
    for setting, lines in evidence.settings.items():
        fixed = [
            (tau, line)
            for line in lines
            if (tau := _tau(line)) is not None and not line.entry.tuned
        ]
        swept = sorted(fixed, key=lambda pair: pair[0])
        if len(swept) < LEAST:
            continue
        curves = [Curve("MSL, test", tuple((tau, _score(line)) for tau, line in swept), marks=True)]
        valid = [(tau, line.entry.mean(SELECT_BY, VALID)) for tau, line in swept]
        known = tuple((tau, value) for tau, value in valid if value is not None)
        curves.append(Curve(f"MSL, validation ({SELECT_BY})", known, marks=True))
        ends = (swept[0][0], swept[-1][0])
        for line in lines:
            if line.cell.loss in ("lml", "msl_ats"):
                level = tuple((tau, _score(line)) for tau in ends)
                curves.append(Curve(f"{line.entry.full_name}, test", level))
        cell = swept[0][1].cell
        title = f"Accuracy by temperature; {swept[0][1].where}"
        suffix = f"-{cell.dataset}-{cell.backbone}-{setting}"
        charts[suffix] = Chart(title, "temperature", HEADLINE, tuple(curves), "x")
    best = ", ".join(f"{name} {tau:g}" for name, tau in TAUS.items())
    notes = (
        f"The authors' best temperatures: {best}. Values are otherwise drawn only.",
        f"At temperature 1 stands MSL without one. {SELECT_BY} on validation is what a search chooses by.",
    )
    made = command("temperature")
    return drawn("figure6", "Figure 6: accuracy by temperature", charts, notes, made)


def figure7(evidence: Evidence) -> Piece:
    """NDCG@10 against seconds of an epoch."""
    charts: dict[str, Chart] = {}
    for setting, lines in evidence.settings.items():
        timed = [(seconds, line) for line in lines if (seconds := _epoch(line)) is not None]
        if len({line.cell.loss for _, line in timed}) < 2:
            continue
        curves = tuple(
            Curve(str(line.cell.loss), ((seconds, _score(line)),), True, False, (_name(line),))
            for seconds, line in sorted(timed, key=lambda pair: pair[0])
        )
        machines = sorted({str(line.row.provenance.get("machine")) for _, line in timed})
        cell = lines[0].cell
        title = f"Accuracy against seconds of an epoch; {lines[0].where}"
        suffix = f"-{cell.dataset}-{cell.backbone}-{setting}"
        across = f"seconds an epoch, validation included ({'; '.join(machines)})"
        charts[suffix] = Chart(title, across, HEADLINE, curves)
    notes = (
        f"{FASTER} Its points are otherwise drawn only.",
        "Seconds of the whole fit divided by its epochs; other work on the machine is in them. S-DPO starts "
        "from LML, whose time is not in it. Steps alone, in pairs: python -m speed.msl_loss, "
        "python -m speed.s_dpo_step.",
    )
    made = command("temperature")
    return drawn("figure7", "Figure 7: accuracy against the time of an epoch", charts, notes, made)


def _tau(line: Line) -> float | None:
    if line.cell.loss == "msl":
        return 1.0
    return float(line.options["tau"]) if line.cell.loss == "msl_tau" else None


def _score(line: Line) -> float:
    return line.metrics[HEADLINE].mean


def _epoch(line: Line) -> float | None:
    """Seconds of an epoch; None where nothing was trained or timed."""
    row = line.row
    seconds, epochs = row.cost.get("fit", {}).get("seconds"), row.facts.get("epochs")
    return None if not seconds or not epochs else float(seconds) / float(epochs)


def _name(line: Line) -> str:
    return line.entry.full_name
