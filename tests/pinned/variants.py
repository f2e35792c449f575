"""Which losses and decoders of a method are pinned."""

from __future__ import annotations

from bench.conformance import variants


def losses_of(name: str) -> dict[str | None, list[str | None]]:
    """By loss, the decoders that read it out: all of them for each loss, as the search is shared."""
    pairs = variants(name)
    decoders = list(dict.fromkeys(decoder for _, decoder in pairs))
    return {loss: decoders for loss in dict.fromkeys(loss for loss, _ in pairs)}
