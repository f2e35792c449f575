"""BIGRec's grounding: generate freely, then rank titles by their distance to what was generated.

Both sides are embedded by the base model (adapters off) as its last hidden state of the last token; the
distance is Euclidean, in fp32 (BIGRec, arXiv 2308.08434). Departures from the authors' code: the same
quoting on both sides, one ranking entry per title, and no text is a miss instead of an undefined point.
Q queries, N texts, I leaves, K list length, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor
from transformers import GenerationConfig

from bench.errors import ConfigError
from bench.registry import decoders
from bench.types import FloatArray, IntArray
from llmrec.decode.base import Decoded, Decoder, DecoderConfig, Progress, blank, in_batches
from llmrec.decode.generate import NO_SAMPLING, own_generation, run
from llmrec.decode.title_embeddings import (
    choose_gamma,
    distances,
    embed_texts,
    nearest,
    popularity,
    scaled,
)

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie


# titles and points by model, for models whose base weights stay as they are
_POINTS: WeakKeyDictionary[Any, dict[Any, tuple[list[str], Tensor]]] = WeakKeyDictionary()


class GroundConfig(DecoderConfig):
    """Options of the grounding."""

    batch: PositiveInt = 16
    """Users decoded together; moves speed and memory, and scores by rounding only."""
    beams: PositiveInt = 4
    """Beams of the free generation, of which only the best is used; 1 is greedy."""
    max_new_tokens: PositiveInt = 128
    """Longest generated answer."""
    quote: Literal["strip", "keep"] = "strip"
    """``strip`` embeds titles without their quotes, ``keep`` with them, on both sides."""
    gamma: NonNegativeFloat | Literal["valid"] = 0.0
    """Exponent of the popularity weighting, 0 for none, ``valid`` for the one that is best on the
    validation rows once the model is trained."""


@decoders.register("ground")
class Ground(Decoder):
    """Free generation, then the nearest titles.

    Attributes:
        weight_I: popularity of each leaf in [0, 1], or None; needed where ``gamma`` is not 0.
    """

    Config = GroundConfig
    config: GroundConfig
    weight_I: FloatArray | None = None
    reads_base: ClassVar[bool] = True  # so adapters must not be folded into the weights

    @property
    def gamma(self) -> float:
        """The exponent in force; 0 as long as it is not chosen."""
        return 0.0 if self.config.gamma == "valid" else self.config.gamma

    @property
    def rule(self) -> str:
        """The scoring rule in words."""
        weighting = f", popularity^{self.gamma:g}" if self.gamma else ""
        return f"free beam {self.config.beams}, nearest title{weighting}"

    def generation_config(self, lm: Backbone, trie: Trie) -> GenerationConfig:
        """What ``generate`` is given."""
        return GenerationConfig(
            **NO_SAMPLING,
            num_beams=self.config.beams,
            num_return_sequences=1,
            max_new_tokens=self.config.max_new_tokens,
            eos_token_id=trie.eos,
            pad_token_id=trie.eos,
            early_stopping=False,
            return_dict_in_generate=True,
        )

    def __call__(
        self,
        lm: Backbone,
        prompts: Sequence[Prompt],
        trie: Trie,
        k: int,
        *,
        progress: Progress | None = None,
    ) -> Decoded:
        """The ``k`` titles nearest to the generated one; scores are negative distances.

        Raises:
            ConfigError: a popularity weighting without weights.
        """
        texts, answers, cut = self._generate(lm, prompts, trie, progress)
        said = np.array([bool(text) for text in texts], bool)
        leaf_QK, score_QK = blank(len(prompts), k)
        exact = 0
        if said.any():
            titles, point_ID = self._titles(lm, trie)
            exact = len({t for t in titles if t} & set(texts))
            point_QD = self._points(lm, texts, answers)
            leaf_QK[said], score_QK[said] = self._rank(point_QD, point_ID, k)
        facts = {
            "beams": self.config.beams,
            "quote": self.config.quote,
            "gamma": self.gamma,
            "empty_generations": int((~said).sum()),
            "truncated_generations": cut,
            "distinct_titles_said": exact,
            "embedded_by": "base weights" if hasattr(lm.model, "disable_adapter") else "the model",
        }
        return Decoded(leaf_QK, score_QK, None, ~said, facts)

    def choose(
        self,
        lm: Backbone,
        prompts: Sequence[Prompt],
        trie: Trie,
        *,
        weight_I: FloatArray,
        target_Q: IntArray,
    ) -> float:
        """Set the popularity weighting to the gamma that is best on these validation users.

        Args:
            lm: the model.
            prompts: of validation users.
            trie: the catalogue.
            weight_I: popularity of each leaf in the training rows, scaled to [0, 1].
            target_Q: the leaf each user went on to.

        Returns:
            The gamma chosen by NDCG@5; users without a generated text do not count.
        """
        texts, answers, _ = self._generate(lm, prompts, trie, None)
        said = np.array([bool(text) for text in texts], bool)
        gamma = 0.0
        if said.any():
            _, point_ID = self._titles(lm, trie)
            point_QD = self._points(lm, texts, answers)
            gamma = choose_gamma(point_QD, point_ID, weight_I, np.asarray(target_Q)[said])
        self.weigh(weight_I, gamma)
        return gamma

    def weigh(self, weight_I: FloatArray, gamma: float | None = None) -> None:
        """Set the popularity of the leaves, and gamma where it was chosen.

        Args:
            weight_I: popularity of each leaf in the training rows, scaled to [0, 1].
            gamma: the exponent chosen on the validation rows; None keeps the configured one.
        """
        self.weight_I = weight_I
        if gamma is not None:
            self.config = self.config.replace(gamma=gamma)

    def _titles(self, lm: Backbone, trie: Trie) -> tuple[list[str], Tensor]:
        """Text and embedding of each leaf; kept while the weights behind it cannot change."""
        kept = _POINTS.setdefault(lm, {})
        key = (trie, self.config.quote)
        if key in kept:
            return kept[key]
        answers = [answer[:-1].tolist() for answer in trie.answer]
        titles = self._texts(lm, answers)
        found = titles, embed_texts(lm, titles, instead=answers)
        if hasattr(lm.model, "disable_adapter"):
            kept[key] = found
        return found

    def _generate(
        self, lm: Backbone, prompts: Sequence[Prompt], trie: Trie, progress: Progress | None
    ) -> tuple[list[str], list[list[int]], int]:
        """One text per prompt, its tokens, and how many never ended."""
        config, cut = self.generation_config(lm, trie), 0
        said: list[list[int]] = [[] for _ in prompts]

        def decode(rows: IntArray) -> None:
            nonlocal cut
            with own_generation(lm):
                token_QL, _ = run(lm, [prompts[row] for row in rows], config)
            ended_QL = token_QL == trie.eos
            cut += int((~ended_QL.any(1)).sum())
            length_Q = np.where(ended_QL.any(1), ended_QL.argmax(1), token_QL.shape[1])
            for row, tokens, length in zip(rows, token_QL, length_Q, strict=True):
                said[row] = tokens[:length].tolist()

        in_batches(prompts, self.config.batch, decode, progress)
        return self._texts(lm, said), said, cut

    def _points(self, lm: Backbone, texts: list[str], answers: list[list[int]]) -> Tensor:
        """Embeddings of the texts that are not empty."""
        kept = [row for row, text in enumerate(texts) if text]
        return embed_texts(lm, [texts[r] for r in kept], instead=[answers[r] for r in kept])

    def _texts(self, lm: Backbone, answers: Sequence[list[int]]) -> list[str]:
        """Answers as text, quoted as configured; an answer of quotes and spaces only is empty."""
        found = []
        for answer in answers:
            text = lm.tokenizer.decode(
                answer, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            bare = text.strip().strip('"').strip()
            found.append(f'"{bare}"' if bare and self.config.quote == "keep" else bare)
        return found

    def _rank(self, point_QD: Tensor, point_ID: Tensor, k: int) -> tuple[IntArray, FloatArray]:
        if self.gamma and self.weight_I is None:
            raise ConfigError(
                f"gamma is {self.gamma:g} but no popularity was given; set weight_I of the "
                "decoder, or gamma to 0"
            )
        if not self.gamma:
            return nearest(point_QD, point_ID, k)
        leaf_QK, score_QK = blank(len(point_QD), k)
        factor_I = popularity(self.weight_I, self.gamma, len(point_ID))
        for row, distance_I in enumerate(distances(point_QD, point_ID)):
            score_I = -scaled(distance_I) * factor_I
            order = np.argsort(-score_I, kind="stable")[:k]
            leaf_QK[row, : len(order)], score_QK[row, : len(order)] = order, score_I[order]
        return leaf_QK, score_QK
