"""The support matrix: for each family of models, what is right, what is replaced, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import ConfigError
from llmrec.support.families import config_of
from llmrec.support.parts import Case, outcomes
from llmrec.support.probe import (
    END_TO_END,
    GENERATE,
    OPENING,
    OWN,
    PACKED,
    PREFERENCE,
    TOLERANCE,
    TREE,
    Result,
    line,
    support,
)
from llmrec.support.shrunk import small_model

EXACT, FALLBACK, REFUSED, WRONG, UNTRIED = (
    "exact",
    "exact with a fallback",
    "refused",
    "wrong",
    "not tried",
)


@dataclass(frozen=True)
class Line:
    """One model of the matrix.

    Attributes:
        name: family, variant or backbone.
        outcome: one of the five words above.
        said: what is done, in words.
        results: by part, the largest difference or what it died of.
    """

    name: str
    outcome: str
    said: str
    results: Mapping[str, Result]


def judged(name: str, results: Mapping[str, Result]) -> Line:
    """The line of a model from what its parts gave.

    Args:
        name: of the model.
        results: by part, the largest difference or what it died of.
    """

    def right(part: str) -> bool:
        return is_right(results.get(part, ""))

    if not right(OWN):
        return Line(name, REFUSED, "not causal, or its own forward pass fails", results)
    if not right(PACKED):
        return Line(name, REFUSED, "a training row is not what the model itself computes", results)
    if not right(TREE) and not right(GENERATE):
        return Line(name, REFUSED, "neither search is what the model itself computes", results)
    said = []
    if not right(OPENING):
        said.append("the opening is not shared")
    if not right(END_TO_END):
        said.append("rows are padded on a GPU as well")
    if not right(PREFERENCE):
        said.append("S-DPO takes the plain route")
    if not right(TREE):
        said.append("decoder `generate` only")
    return Line(name, FALLBACK if said else EXACT, "; ".join(said), results)


def family_line(name: str) -> Line:
    """The line of a family, checked a second time on other prompts with other weights.

    Args:
        name: a family or variant of ``families``.
    """
    try:
        config = config_of(name)
        found = line(support(config, name))
        made = judged(name, found)
        if made.outcome in {EXACT, FALLBACK}:
            again = Case.of(small_model(config, seed=1), seed=1)
            used = [part for part, value in found.items() if part != OWN and is_right(value)]
            off = {k: v for k, v in outcomes(again, used).items() if not is_right(v)}
            if off:
                return Line(name, WRONG, f"on other prompts: {off}", found)
    except Exception as fault:  # a configuration without usable defaults may fail in any way
        first = (str(fault).splitlines() or [""])[0]
        return Line(name, UNTRIED, first[:110], {})
    return made


def backbone_line(name: str) -> Line:
    """The line of one backbone; only its configuration is read.

    Args:
        name: as ``--backbone`` takes it.

    Raises:
        Unavailable: there is no such model here.
        ConfigError: no small copy of it can be made.
    """
    from llmrec.lm.pretrained import config_named

    return judged(name, line(support(config_named(name), name)))


def doctor_lines(name: str) -> list[tuple[bool | None, str]]:
    """What ``bench doctor --backbone`` prints: a mark and a sentence for each part, then the outcome.

    Args:
        name: as ``--backbone`` takes it.
    """
    try:
        made = backbone_line(name)
    except ConfigError as fault:
        return [(False, f"backbone {name}: refused; {fault}")]
    lines: list[tuple[bool | None, str]] = []
    for part, found in made.results.items():
        said = f"off by {found:.1e}" if isinstance(found, float) else found
        lines.append((True if is_right(found) else None, f"backbone {name}: {part}: {said}"))
    whole = f"{made.outcome}{': ' if made.said else ''}{made.said}"
    return [*lines, (made.outcome != REFUSED, f"backbone {name}: {whole}")]


def is_right(found: Result) -> bool:
    """Whether a part gave the model's own numbers."""
    return isinstance(found, float) and found <= TOLERANCE
