"""D3's assistant: a language model and an ID model as a product of experts over the title trie.

Every token scores ``g * log P + (1 - g) * log C``, where C is the ID model's probability of what lies
below the token (``expert``). Over ``valid`` tokens a title scores ``g * log P_LM + (1 - g) * log P_ID``, both
of the whole title, and the exact search orders the catalogue by that.

Source: Bao et al., "Decoding Matters" (EMNLP 2024) and its code, whose test script leaves the guidance at 1,
where no assistant takes part; g is 1 here as well until it is set. C with the popularity in the training
rows instead of an ID model is the control: what of a gain is the user's and what the catalogue's?
Q queries, K list length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator
from typing_extensions import Self

from bench.errors import ConfigError
from bench.registry import decoders
from llmrec.decode.base import Decoded, Decoder, DecoderConfig, Progress
from llmrec.decode.beam import Beam
from llmrec.decode.exact import Exact
from llmrec.decode.expert import Advised, ItemScores
from llmrec.decode.rule import Space, Tau

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie


class D3Config(DecoderConfig):
    """Options of the product of experts."""

    g: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Weight of the language model; 1 asks no expert, 0 gives the expert's list."""
    expert: Literal["sasrec", "popularity"] = "sasrec"
    """The other model: a SASRec trained on the same rows, or how often a title is a training target."""
    sasrec: Mapping[str, Any] = Field(default_factory=dict)
    """Options of that SASRec."""
    sasrec_loss: Literal["ce", "bce"] = "ce"
    """Loss of that SASRec."""
    search: Literal["exact", "beam"] = "exact"
    """Exact search with a proof, or beam search as in the released code."""
    space: Space = "valid"
    """Softmax of the language model over the ``valid`` tokens, or over the ``full`` vocabulary as in the
    released code (beam search only)."""
    tau: Tau = 1.0
    """Temperature under the language model's softmax; ``train`` for the one it was trained with."""
    beams: PositiveInt = 10
    """Width of the beam search."""
    budget: PositiveInt = 2000
    """Prefixes the exact search expands per user at most."""

    @model_validator(mode="after")
    def _exact_among_valid(self) -> Self:
        if self.search == "exact" and self.space == "full":
            raise ConfigError(
                "space is 'full' and search 'exact', but over all tokens forced tokens cost something and "
                "no answer is complete at its last choice; take search 'beam' or space 'valid'"
            )
        return self


@decoders.register("d3")
class D3(Decoder):
    """Product of a language model and an ID model."""

    Config = D3Config
    config: D3Config

    _scores: ItemScores | None = None

    @property
    def asks(self) -> str | None:
        """The model whose scores it needs; None at g 1, where the language model decides alone."""
        return self.config.expert if self.config.g < 1 else None

    def consult(self, scores: ItemScores) -> None:
        """Set the expert's scores; from now on prompts have to be ``Numbered``.

        Args:
            scores: given query numbers, the scores of the items 1..N, float [B, N].
        """
        self._scores = scores

    @property
    def rule(self) -> str:
        """The scoring rule in words."""
        c = self.config
        expert = f" and {1 - c.g:g} {c.expert}" if self.asks else ""
        return f"product of experts, {c.g:g} language model{expert}; {self._search().rule}"

    def _search(self) -> Beam | Exact:
        c = self.config
        if c.search == "exact":
            return Exact({"batch": c.batch, "tau": c.tau, "budget": c.budget})
        options = {"batch": c.batch, "tau": c.tau, "beams": c.beams, "space": c.space}
        return Beam({**options, "audit": 0})

    def __call__(
        self,
        lm: Backbone,
        prompts: Sequence[Prompt],
        trie: Trie,
        k: int,
        *,
        progress: Progress | None = None,
    ) -> Decoded:
        """The ``k`` best answers; see ``Decoder``.

        Raises:
            ConfigError: the expert's scores were not given, or ``k`` is more than the beams.
        """
        search = self._search()
        if self.asks and prompts:
            if self._scores is None:
                raise ConfigError(
                    f"g is {self.config.g:g}, but this decoder was given no scores of {self.asks!r}; use it "
                    "in a cell of a method that writes titles, or set g to 1"
                )
            search.follows = partial(Advised, g=self.config.g, scores=self._scores)
        decoded = search(lm, prompts, trie, k, progress=progress)
        decoded.facts.update(g=self.config.g, expert=self.asks, search=self.config.search)
        return decoded
