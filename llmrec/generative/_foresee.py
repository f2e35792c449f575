"""What the loss of a generative method will make of a catalogue, told before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.errors import ConfigError
from bench.method import configure
from bench.registry import losses
from bench.types import Windows
from llmrec.lm.backbone import embedded_tokenizer
from llmrec.lm.names import BACKBONES, EMBEDDED
from llmrec.trie import for_titles

SMALL = 1000  # items; with more, the mean number of valid tokens is far above 1 / eta


def foresee(
    config: Any, train: Windows, *, loss: str | None, backbone: str | None
) -> Iterator[str]:
    """A sentence where the adaptive temperature has too few valid tokens to adapt, or is refused.

    Of other tokenizers than that of the models that come with the packages nothing is said.

    Args:
        config: of a generative method, its loss's options written out.
        train: training rows.
        loss: name of the loss.
        backbone: name of the language model.
    """
    if train.n_items > SMALL or (backbone or EMBEDDED) not in BACKBONES:
        return
    if loss is None or loss not in losses or losses.get(loss).kind != "token":
        return
    kind: Any = losses.get(loss)
    options = configure(kind, config.loss_options, stored=True)
    tokenizer = embedded_tokenizer()
    trie = for_titles(train.catalogue.titles, tokenizer)
    try:
        made = kind(options, trie, vocabulary=len(tokenizer), avt=trie.avt(train.target_W))
    except ConfigError as fault:
        yield f"it will fail: {fault}"
        return
    facts = made.facts()
    if facts.get("ats_eta_above_chance") == 0.0:
        m, eta, highest = facts["ats_m"], options.eta, options.clamp[1]
        yield (
            f"{m:.2f} valid tokens on average times eta {eta:g} is at most 1, so that chance alone gives a "
            f"target its share: the temperature goes to its upper bound, {highest:g}; eta above {1 / m:.2f} "
            "lets it adapt"
        )
