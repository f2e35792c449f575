"""BIGRec: a language model tuned to write the title of the next item.

The prompt lists the titles of the history, the answer is the next title in quotes. Constrained decoding
replaces the original grounding step by default, as in the MSL paper; ``ground`` is among the decoders.
The loss ``zero_shot`` leaves the model untuned: the floor that any tuning has to beat.

Source: Bao et al., "A Bi-Step Grounding Paradigm for Large Language Models in Recommendation Systems",
TORS 2025; recipe of the MSL paper, Section 5.1.
"""

from __future__ import annotations

from typing import ClassVar

from bench.registry import methods
from llmrec.generative._config import ZERO_SHOT
from llmrec.generative._generative import Generative


@methods.register("bigrec")
class BIGRec(Generative):
    """Reads the history as titles and writes the next title."""

    untrained: ClassVar[tuple[str, ...]] = (ZERO_SHOT,)
