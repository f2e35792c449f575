"""The layouts a cell runs its language model in: those it asks for, or equal ones that are right.

A layout that does not give the model's own numbers (``probe``) is replaced by the plain one, which
computes the same and costs more; where there is none, the cell is refused before it trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.errors import ConfigError
from llmrec.decode.base import Decoder
from llmrec.support.probe import (
    BODY,
    END_TO_END,
    GENERATE,
    OPENING,
    OWN,
    PACKED,
    PREFERENCE,
    TREE,
    Support,
)


@dataclass(frozen=True)
class Wanted:
    """What a cell asks for.

    Attributes:
        training: on what it trains: ``nothing``, ``tokens`` of answers, or the ``preference`` of one answer.
        share_opening: compute the common opening of all prompts once.
        together: put the answers of a preference row behind one prompt.
        packed: tokens of a micro-batch whose rows stand end to end; 0 for padded rows.
    """

    training: Literal["nothing", "tokens", "preference"]
    share_opening: bool = True
    together: bool = True
    packed: int = 0


@dataclass(frozen=True)
class Layouts:
    """How a cell runs its model.

    Attributes:
        share_opening, together, packed: as in ``Wanted``, where that is right.
        facts: for the row: what was put in place of what, and the largest difference of what is used.
    """

    share_opening: bool
    together: bool
    packed: int
    facts: Mapping[str, Any]


def layouts(found: Support, wanted: Wanted, decoder: Decoder) -> Layouts:
    """The layouts for a cell, each of which gives the model's own numbers.

    Args:
        found: what is right for its model.
        wanted: what it asks for.
        decoder: the decoder it searches with.

    Raises:
        ConfigError: the model is not causal, cannot be trained or cannot be decoded so; says what works.
    """
    if not found.right(OWN):
        raise ConfigError(f"{found.name} cannot be used: {found.wrong(OWN)}; take another backbone")
    share, together, changed = wanted.share_opening, wanted.together, list[str]()
    packed = wanted.packed if wanted.training != "nothing" and together else 0
    if wanted.training != "nothing":
        if not found.right(PACKED):
            raise ConfigError(
                f"{found.name} cannot be trained: {found.wrong(PACKED)}; take the loss zero_shot, or another "
                "backbone"
            )
        if packed and not found.right(END_TO_END):
            packed = 0
            changed.append(f"rows are padded, as {found.wrong(END_TO_END)}")
        if share and not packed and not found.right(OPENING):
            share = False
            changed.append(f"share_opening is off, as {found.wrong(OPENING)}")
    asks = wanted.training == "preference" and together and not packed
    if asks and not found.right(PREFERENCE):
        together = False
        changed.append(f"route is plain, as {found.wrong(PREFERENCE)}")
    _check_decoder(found, decoder)
    facts = {
        "layouts": "; ".join(changed) or "as configured",
        "layouts_difference": max(found.used.values()),
    }
    if wanted.training != "nothing":
        facts["training_rows"] = f"end to end, {packed} tokens" if packed else "padded"
    return Layouts(share, together, packed, facts)


def part_of(decoder: Decoder) -> str:
    """The part that a decoder rests on: ``generate`` if it has a configuration for that, else the tree."""
    own = type(decoder).generation_config is Decoder.generation_config
    return TREE if own else GENERATE


def _check_decoder(found: Support, decoder: Decoder) -> None:
    """Refuse a decoder that rests on a part that is wrong for the model."""
    part = part_of(decoder)
    # the one decoder that reads the base weights embeds titles, by the body alone
    parts = (part, BODY) if getattr(decoder, "reads_base", False) else (part,)
    wrong = next((part for part in parts if not found.right(part)), None)
    if wrong is None:
        return
    other, names = (TREE, "beam or exact") if part == GENERATE else (GENERATE, "generate")
    works = f"take the decoder {names}" if found.right(other) else "take another backbone"
    raise ConfigError(
        f"{found.name} cannot be decoded by {decoder.name}: {found.wrong(wrong)}; {works}"
    )
