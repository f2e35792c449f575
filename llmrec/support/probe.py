"""Whether a model's numbers are right in the layouts a cell would use, asked before anything is trained.

A small copy of the architecture (``shrunk``) runs two prompts and five titles through its own
``forward(input_ids)`` and through each layout, in float32 on the model's device. Where a layout does not give
the model's own log-probabilities, an equal but slower one takes its place, or the cell is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrec.lm.backbone import Backbone
from llmrec.lm.encoder_decoder import EncoderDecoder
from llmrec.support.parts import PARTS, Case, looks_ahead, outcomes, said_by
from llmrec.support.shrunk import small_model

TOLERANCE = (
    1e-3  # of a log-probability; rounding stays below 1e-4, and what is wrong is beyond 1e-2
)
Result = float | str  # the largest difference, or what the layout died of
OWN, BODY, OPENING, PACKED = "own forward", "body", "shared opening", "packed training"
TREE, PREFERENCE, GENERATE = "tree search", "preference", "generate"
END_TO_END = "rows end to end"
_FOUND: dict[tuple[str, str, str, int | None, type[Backbone]], _Asked] = {}


class _Asked:
    """A small model with the parts that were tried on it, each once."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.found: dict[str, Result] = {}

    def result(self, part: str) -> Result:
        """The largest difference of a part, or what it died of."""
        if part not in self.found:
            self.found |= outcomes(self.case, [part]) if part != OWN else {OWN: _own(self.case)}
        return self.found[part]


@dataclass
class Support:
    """What is right for one model.

    Attributes:
        name: what messages call the model.
        results: by part, the largest difference from the model's own log-probabilities and gradients, or what
            it died of; filled when a part is asked for.
    """

    name: str
    asked: _Asked
    used: dict[str, float] = field(default_factory=dict)

    @property
    def results(self) -> Mapping[str, Result]:
        """Every part that was asked for so far."""
        return dict(self.asked.found)

    def right(self, part: str) -> bool:
        """Whether a part gives the model's own numbers; its difference then counts as used."""
        found = self.asked.result(part)
        if right := isinstance(found, float) and found <= TOLERANCE:
            self.used[part] = float(found)
        return right

    def wrong(self, part: str) -> str:
        """What is wrong with a part, in words."""
        found = self.asked.result(part)
        if isinstance(found, str):
            return f"its {part} does not run ({found})"
        return f"its {part} is off by {found:.2g} from the model's own forward pass"


def support_of(lm: Backbone, *, longest: int | None = None) -> Support:
    """The support of a backbone's architecture; parts are tried when they are asked for, and once.

    Args:
        lm: the backbone; only its configuration and its device are read.
        longest: tokens of the longest text, see ``small_model``.

    Raises:
        ConfigError: no small copy can be made.
    """
    kind = EncoderDecoder if isinstance(lm, EncoderDecoder) else Backbone
    return support(lm.causal.config, lm.name, device=str(lm.device), longest=longest, kind=kind)


def support(
    config: Any,
    name: str,
    *,
    device: str = "cpu",
    longest: int | None = None,
    kind: type[Backbone] = Backbone,
) -> Support:
    """The support of the architecture with this configuration.

    Args:
        config: of transformers.
        name: what messages call the model.
        device: where it is tried.
        longest: tokens of the longest text, see ``small_model``.
        kind: how the model is run.

    Raises:
        ConfigError: no small copy can be made.
    """
    kernel = str(getattr(config, "_attn_implementation", None))
    key = (config.to_json_string(), kernel, device, longest, kind)
    if key not in _FOUND:
        small = small_model(config, crossed=longest, auto=kind.auto).to(device)
        _FOUND[key] = _Asked(Case.of(small, kind=kind))
    return Support(name, _FOUND[key])


def _own(case: Case) -> Result:
    """Whether the model's own forward pass runs and is causal."""
    try:
        ahead = looks_ahead(case)
    except Exception as fault:  # an architecture's own code may fail in any way
        return said_by(fault)
    if ahead > TOLERANCE:
        return f"what it says of a token depends on later ones, by {ahead:.2g}"
    return ahead


def line(found: Support) -> dict[str, Result]:
    """Every part of a model, asked for in order; parts are left out where the model itself does not do.

    Args:
        found: the support of its architecture.
    """
    parts = (OWN, *PARTS) if found.right(OWN) else (OWN,)
    return {part: found.asked.result(part) for part in parts}
