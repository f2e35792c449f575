"""Which losses and decoders of a method the tests run.

BIGRec, the plainest language model, runs with every loss and every decoder; LLaRA, the plainest with vectors
in its prompts, with the paper's losses and every decoder; the other language models with the paper's losses
and two decoders. So each loss and each decoder is run by one method at least, and the tests grow with the
number of losses, decoders and methods, not with their product.
"""

from __future__ import annotations

from bench.conformance import variants
from bench.registry import methods

WITH_EVERY_LOSS = "bigrec"
WITH_EVERY_DECODER = ("bigrec", "llara")
OF_ALL = ("beam", "exact")
# losses that go through a method as an examined one does; a pinned run fits, keeps and restores it
PINNED_ALONE = frozenset(
    "bear msl_focal msl_smooth msl_prior title_softmax dmpo dynamic_dpo".split()
)
OF_THE_PAPER = ("lml", "s_dpo", "msl_ats")


def covering(name: str) -> list[tuple[str | None, str | None]]:
    """Pairs (loss, decoder) of a method that the tests run."""
    kind, pairs = methods.get(name), variants(name)
    if not kind.decodes or name == WITH_EVERY_LOSS:
        return pairs
    asked = (*OF_THE_PAPER, kind.default_loss)
    return [
        (loss, decoder)
        for loss, decoder in pairs
        if (loss in asked or decoder != "beam")
        and (decoder in OF_ALL or name in WITH_EVERY_DECODER)
    ]


def examined(name: str) -> list[tuple[str | None, str | None]]:
    """Pairs (loss, decoder) of a method whose contract the tests ask about."""
    return [pair for pair in covering(name) if pair[0] not in PINNED_ALONE]


def losses_of(name: str) -> dict[str | None, list[str | None]]:
    """By loss, the decoders that read it out."""
    found: dict[str | None, list[str | None]] = {}
    for loss, decoder in covering(name):
        found.setdefault(loss, []).append(decoder)
    return found
