"""LC-Rec: a language model that reads and writes semantic ids as new tokens of its vocabulary.

The prompt is BIGRec's with the codes of each item in place of its title, the answer the codes of the next
item and an end token. With adapters, the rows of the codes are the only ones of embedding and head that are
trained. Answers are held to the trie of all semantic ids, by whatever decoder; the released code allows a set
of codes at each level, so that codes of no item can win there.

Source: Zheng et al., "Adapting Large Language Models by Integrating Collaborative Semantics for
Recommendation", ICDE 2024. Departures: one of its six tasks (the next item), adapters and recipe as BIGRec
here instead of all weights of LLaMA-7B, our tokenizer of titles.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.cell import Run
from bench.registry import methods
from bench.types import Catalogue, Exam, IntArray, Windows
from llmrec.generative._generative import KEPT
from llmrec.generative._semantic import Semantic, SemanticConfig
from llmrec.lm.backbone import Backbone
from llmrec.lm.scratch import CompactTokenizer
from llmrec.prompt import Prompter
from llmrec.sid.extended_backbone import ExtendedBackbone
from llmrec.trie import fingerprint, for_titles


class LCRecConfig(SemanticConfig):
    """Recipe of BIGRec, and how the new tokens begin."""

    init: Literal["text", "random"] = "text"
    """First row of a code: the mean embedding of the title tokens of the trained items that have it
    (``text``), or ``random``; both of the mean length of the model's own rows."""


class ItemCodePrompter(Prompter):
    """Prompts with the codes of each history item in place of its title.

    Args:
        catalogue: the items.
        tokenizer: of the language model.
        token_NL: tokens of each item's codes.
        **options: as of ``Prompter``.
    """

    def __init__(
        self, catalogue: Catalogue, tokenizer: Any, token_NL: IntArray, **options: Any
    ) -> None:
        super().__init__(catalogue, tokenizer, **options)
        self.token_NL = token_NL

    @cached_property
    def _middle(self) -> list[list[int]]:
        comma = self._joints[0]
        return [[*row, *comma] for row in self.token_NL.tolist()]

    @cached_property
    def _last(self) -> list[list[int]]:
        end = self._joints[1]
        return [[*row, *end] for row in self.token_NL.tolist()]


@methods.register("lc_rec")
class LCRec(Semantic):
    """Reads the history as codes within a prompt and writes the codes of the next item."""

    Config = LCRecConfig
    lm: ExtendedBackbone

    @property
    def first(self) -> int:
        """Behind the model's own tokens."""
        return self.lm.first

    @property
    def base(self) -> str:
        """The language model's tokenizer."""
        return fingerprint([], self.lm.tokenizer)

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Tune as every method here; notes how much denser the trie is than that of the titles."""
        super().fit(train, valid, run)
        run.facts["parameters_trained"] = sum(p.numel() for p in self.lm.learnt().values())
        titles = for_titles(train.catalogue.titles, self.lm.tokenizer)
        run.facts["avt_titles"] = titles.avt(train.target_W)

    def dress(self, lm: Backbone, train: Windows, run: Run) -> Backbone:
        """The backbone with the codes as new tokens."""
        extended = ExtendedBackbone(lm, self.codes, seed=run.seed_for("codes"))
        if self.config.init == "text":
            titles = train.catalogue.titles
            items = [int(item) for item in np.flatnonzero(train.seen) if titles[item].strip()]
            extended.start_from_titles(self.codes, titles, items)
        return extended

    def undress(self, folder: Path) -> None:
        """Save the semantic ids, and the tokens that a compact vocabulary kept."""
        super().undress(folder)
        if isinstance(self.lm.tokenizer.base, CompactTokenizer):
            np.save(folder / KEPT, self.lm.tokenizer.base.kept_V)

    def redress(self, lm: Backbone, folder: Path) -> Backbone:
        """The backbone with the codes as new tokens, whose rows are loaded later."""
        return ExtendedBackbone(lm, self.codes, seed=0)

    def make_prompter(self, catalogue: Catalogue, **options: Any) -> Prompter:
        """Makes the prompts, with codes for titles."""
        token_NL = self.codes.tokens(self.first)
        return ItemCodePrompter(catalogue, self.lm.tokenizer, token_NL, **options)
