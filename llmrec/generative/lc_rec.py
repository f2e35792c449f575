"""LC-Rec: a language model that reads and writes semantic ids as new tokens of its vocabulary.

The prompt is BIGRec's with the codes of each item in place of its title, the answer the codes of the next
item and an end token. With adapters, the rows of the codes are the only ones of embedding and head that are
trained. Answers are held to the trie of all semantic ids, by whatever decoder; the released code allows a set
of codes at each level, so that codes of no item can win there.

Source: Zheng et al., "Adapting Large Language Models by Integrating Collaborative Semantics for
Recommendation", ICDE 2024. Departures: of the six tasks of its code the next item and, with
``align: both``, the two that align titles and codes (``_alignment``); adapters and recipe as BIGRec here
instead of all weights of LLaMA-7B; our tokenizer of titles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.cell import Run, Size
from bench.config import later
from bench.errors import ConfigError
from bench.registry import losses, methods
from bench.types import Catalogue, Exam, IntArray, Windows
from llmrec.generative._alignment import rows_by_task, titled, with_alignment
from llmrec.generative._code_prompts import ItemCodePrompter, requests
from llmrec.generative._config import GenerativeConfig
from llmrec.generative._generative import KEPT, prefers
from llmrec.generative._semantic import Semantic, SemanticConfig
from llmrec.lm.backbone import Backbone, embedded_tokenizer
from llmrec.lm.scratch import CompactTokenizer
from llmrec.prompt import Prompter
from llmrec.sid.extended_backbone import ExtendedBackbone
from llmrec.training.loop import Training
from llmrec.trie import fingerprint, for_titles


class LCRecConfig(SemanticConfig):
    """Recipe of BIGRec, and how the new tokens begin."""

    init: Literal["text", "random"] = "text"
    """First row of a code: the mean embedding of the title tokens of the trained items that have it
    (``text``), or ``random``; both of the mean length of the model's own rows."""
    align: Literal["none", "both"] = later(default="none")
    """With ``both``, each epoch also trains to write the codes of each trained item from its title and its
    title from its codes; these rows have LML's softmax under every loss."""


@methods.register("lc_rec")
class LCRec(Semantic):
    """Reads the history as codes within a prompt and writes the codes of the next item."""

    Config = LCRecConfig
    lm: ExtendedBackbone
    _more_texts: Sequence[str] = ()  # beside those of every prompt and answer

    @classmethod
    def complete(cls, config: Any, *, loss: str | None, decoder: str | None) -> Any:
        """The config with every option of its loss and decoder written out.

        Args:
            config: the method's configuration.
            loss: name of its loss, if any.
            decoder: name of its decoder, if any.

        Raises:
            ConfigError: an unknown option or a value out of range, or alignment beside a loss without answer
                tokens of its own.
        """
        if config.align != "none" and loss is not None and loss in losses:
            kind: Any = losses.get(loss)
            if kind.kind != "token" and not kind.starts_tuned:
                raise ConfigError(
                    f"align is {config.align!r}, but the loss {loss} is over whole answers, beside which no "
                    "others are trained; set align to 'none' or take a loss over answer tokens, such as lml"
                )
        return super().complete(config, loss=loss, decoder=decoder)

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float | None:
        """As every method here, with two rows more for each item where titles and codes are aligned."""
        if config.align != "none" and not prefers(size.loss):
            size = replace(size, train_rows=size.train_rows + 2 * size.n_items)
        return super().estimate_seconds(config, size)

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
        if self.config.align != "none":
            self._more_texts = requests(train.catalogue.domain)
        super().fit(train, valid, run)
        run.facts["parameters_trained"] = sum(p.numel() for p in self.lm.learnt().values())
        titles = for_titles(train.catalogue.titles, self.lm.tokenizer)
        run.facts["avt_titles"] = titles.avt(train.target_W)

    def dress(self, lm: Backbone, train: Windows, run: Run) -> Backbone:
        """The backbone with the codes as new tokens."""
        extended = ExtendedBackbone(lm, self.codes, seed=run.seed_for("codes"))
        if self.config.init == "text":
            items = titled(train).tolist()
            extended.start_from_titles(self.codes, train.catalogue.titles, items)
        return extended

    def _bare(
        self, device: str, kept_V: IntArray | None, config: GenerativeConfig | None = None
    ) -> Backbone:
        if kept_V is not None and self._more_texts:
            more = CompactTokenizer.of(embedded_tokenizer(), self._more_texts)
            kept_V = np.union1d(kept_V, more.kept_V)
        return super()._bare(device, kept_V, config)

    def _training(self, train: Windows, run: Run) -> Training:
        training = super()._training(train, run)
        if self.config.align == "none" or prefers(self.loss):
            return training
        training = with_alignment(training, self, train)
        run.facts["rows_by_task"] = rows_by_task(training)
        return training

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
