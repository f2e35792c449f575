"""The scoring rule: what an answer is worth, given the log-probabilities of its tokens.

``score = sum of a * log P(token | prefix) / (sum of b) ** length_penalty``, where a and b depend on how many
tokens were valid at the token's place; a token without an alternative is *forced*. transformers has
a = b = 1. D3 (Bao et al., "Decoding Matters", EMNLP 2024) leaves forced tokens out of the length; LBR (its
released code) weighs both sums by the logarithm of the number of valid tokens.
M trie nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from typing_extensions import Self

from bench.config import later
from bench.errors import ConfigError
from bench.types import IntArray
from llmrec.decode.base import DecoderConfig

if TYPE_CHECKING:
    from torch import Tensor

    from llmrec.decode.device_trie import DeviceTrie

Space = Literal["full", "valid"]
Length = Literal["tokens", "branching", "fan_out"]
Weight = Literal["one", "length"]
Prune = Literal["sum", "score"]
Tau = PositiveFloat | Literal["train"]
OF_TRAINING: Literal["train"] = "train"
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The scoring rule; the end token counts as any other.

    Attributes:
        space: softmax over the ``full`` vocabulary or over the ``valid`` tokens.
        length_penalty: exponent of the length; 0 for the log-probability of the answer.
        tau: temperature under both softmaxes.
        length: b of a token: 1 (``tokens``), 1 if it has an alternative, else 0 (``branching``), or
            ``al * ln(valid tokens) + be`` (``fan_out``).
        a: weight of a log-probability: ``one``, or the token's part of the ``length``.
        al, be: of ``fan_out``.
        prune: what a beam search compares unfinished beams by: the weighted ``sum``, or the ``score``.
    """

    space: Space = "valid"
    length_penalty: float = 0.0
    tau: float = 1.0
    length: Length = "tokens"
    a: Weight = "one"
    al: float = 1.0
    be: float = 0.0
    prune: Prune = "sum"

    @property
    def words(self) -> str:
        """The rule in a few words."""
        space = "all tokens" if self.space == "full" else "valid tokens"
        lengths = {"tokens": "length", "branching": "tokens with an alternative"}
        length = lengths.get(self.length, f"({self.al:g} ln valid + {self.be:g})")
        weighted = ", log-probabilities weighted by their part of the length"
        return (
            f"sum of log-probabilities over {space} / {length}^{self.length_penalty:g}, "
            f"tau {self.tau:g}{weighted if self.a == 'length' else ''}"
            f"{', beams compared by the score' if self.prune == 'score' else ''}"
        )

    @property
    def forced_is_free(self) -> bool:
        """Whether forced tokens leave the sum as it is, so that answers are complete at their last choice."""
        return self.space == "valid" or (self.a == "length" and not self.lengths(np.ones(1))[0])

    def lengths(self, fan: IntArray | Scores) -> Scores:
        """What a token adds to the length.

        Args:
            fan: number of valid tokens at its place.
        """
        if self.length == "tokens":
            return np.ones(len(fan))
        if self.length == "branching":
            return (fan > 1).astype(np.float64)
        return self.al * np.log(fan) + self.be

    def final(self, score: Tensor, node: Tensor, trie: DeviceTrie) -> Tensor:
        """Scores of answers that end at these nodes, or of beams that stand there.

        Args:
            score: weighted sum of log-probabilities up to each node, float64.
            node: the nodes.
            trie: the catalogue under this rule.
        """
        return score if trie.divisor_M is None else score / trie.divisor_M[node]

    def bound(self, score: Tensor, node: Tensor, trie: DeviceTrie) -> Tensor:
        """The best final score that any answer at or below these nodes can still reach.

        Weights are not negative and log-probabilities not positive, so the sum can only fall from here;
        the length that helps most is assumed.

        Args:
            score: weighted sum of log-probabilities up to each node, float64.
            node: the nodes.
            trie: the catalogue under this rule.
        """
        return score if trie.best_divisor_M is None else score / trie.best_divisor_M[node]


def temperature(tau: Tau) -> float:
    """The temperature that an option names.

    Raises:
        ConfigError: it is ``train``, which only a trained method can replace by a number.
    """
    if tau == OF_TRAINING:
        raise ConfigError(
            "tau is 'train', the temperature of a method's training, which is not known here; "
            "give a number"
        )
    return tau


class RuleConfig(DecoderConfig):
    """The options of a rule that all searches share."""

    length_penalty: float = 0.0
    """Exponent of the length the score is divided by; the released code leaves 1."""
    tau: Tau = 1.0
    """Temperature under the softmax; 1 is the released code's, whatever tau was trained with; ``train``
    asks a method for the one it was trained with."""
    length: Length = later(default="tokens")
    """What counts as length: ``tokens``, the tokens that have an alternative (``branching``, D3), or the
    sum of al * ln(number of valid tokens) + be (``fan_out``, LBR)."""
    a: Weight = later(default="one")
    """Weight of each log-probability: ``one``, or its token's part of the ``length`` (LBR)."""
    al: NonNegativeFloat = later(default=1.0)
    """Weight of the logarithm in ``fan_out``."""
    be: NonNegativeFloat = later(default=0.0)
    """What every token adds to the length in ``fan_out``."""

    @model_validator(mode="after")
    def _some_length(self) -> Self:
        if self.length == "fan_out" and self.al == self.be == 0:
            raise ConfigError("al and be are 0: no token has a length; raise one of them")
        return self

    @property
    def rule_options(self) -> dict[str, Any]:
        """The shared options as arguments of ``Rule``."""
        names = ("length_penalty", "length", "a", "al", "be")
        return {name: getattr(self, name) for name in names} | {"tau": temperature(self.tau)}
