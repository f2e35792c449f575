"""A control for masked losses: a softmax over whole titles, the target and K that are drawn.

The score of a title is ``S(c) = sum_t log P(token_t)`` over the tokens that continue some title, end token
included, so that over the whole catalogue the titles' probabilities sum to 1 and ``-S`` is MSL summed over
the answer. With drawn negatives it is sampled softmax; ``log_q`` takes off the log of the probability that a
title is drawn (Bengio and Senecal, IEEE TNN 2008). It is trained in LML's place, not after it, and has no
reference model. The batch's other targets as negatives are not offered: ten times the cost at a batch of 128.
B rows, J = 1 + K answers a row (the positive first), C titles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from bench.config import Config
from bench.registry import losses
from bench.types import FloatArray, IntArray
from llmrec.lm.head import Head
from llmrec.losses.base import Answers
from llmrec.losses.lml import lml
from llmrec.losses.msl import msl
from llmrec.preference.base import NegativesConfig, PreferenceLoss
from llmrec.preference.s_dpo import s_dpo
from llmrec.trie import Trie


class TitleSoftmaxConfig(NegativesConfig):
    """Options of the softmax over titles."""

    negatives: PositiveInt = 15
    """K, titles that are drawn beside the target."""
    title_tau: PositiveFloat = 1.0
    """Temperature of the softmax over titles; that of the tokens is 1."""
    log_q: bool = False
    """Take the log of the probability with which a title is drawn off its score."""
    msl: NonNegativeFloat = 0.0
    """Weight of MSL, summed over the target's tokens, that is added."""
    space: Literal["valid", "full"] = "valid"
    """Softmax of a token over those that continue some title, or over the whole vocabulary."""


@losses.register("title_softmax")
class TitleSoftmax(PreferenceLoss):
    """Softmax over the target and K drawn titles, each scored as a whole; no reference model."""

    starts_tuned = False
    Config: ClassVar[type[Config]] = TitleSoftmaxConfig
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "title_tau": (0.5, 1.0, 2.0),
        "log_q": (False, True),
        "msl": (0.0, 0.1, 1.0),
    }

    def __init__(self, config: Any, trie: Trie, *, vocabulary: int, avt: float) -> None:
        """As every loss; no training target is known until ``observe_targets``."""
        super().__init__(config, trie, vocabulary=vocabulary, avt=avt)
        self.rows_C: IntArray = np.zeros(trie.n_leaves, np.int64)

    @property
    def beta(self) -> float:
        """Inverse temperature of the softmax over titles."""
        return 1 / float(self.config.title_tau)

    def observe_targets(self, leaf_W: IntArray) -> None:
        """Count the training rows of each title.

        Args:
            leaf_W: title of each training row's target.
        """
        self.rows_C = np.bincount(leaf_W, minlength=self.trie.n_leaves)

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """Negative log-probability of each answer token, [R]; 0 without a choice in space ``valid``."""
        if self.config.space == "full":
            return lml(hidden_RD, head, answers.token_R)
        return msl(hidden_RD, head, answers, self.trie)

    def reference_of_title(self) -> FloatArray:
        """``title_tau log Q`` of each title under ``log_q``, else 0, float64 [C]."""
        c = self.config
        if not c.log_q:
            return np.zeros(self.trie.n_leaves)
        titles_C = np.ones(self.trie.n_leaves) if c.class_aware else self.trie.leaf_items.lengths
        drawn_C = titles_C + (self.rows_C if c.sampling == "popularity" else 0)
        proposal_C: FloatArray = np.log(drawn_C / drawn_C.sum())
        return c.title_tau * proposal_C

    def of_rewards(self, reward_BJ: Tensor) -> Tensor:
        """``-log softmax`` of the target over the answers, [B]."""
        return s_dpo(reward_BJ, beta=self.beta)

    def of_log_probs(self, log_prob_BJ: Tensor, reference_BJ: Tensor) -> Tensor:
        """The softmax over titles plus the weighted MSL of the target, [B].

        Args:
            log_prob_BJ: S of each answer.
            reference_BJ: taken off S, see ``reference_of_title``.
        """
        loss_B = self.of_rewards(log_prob_BJ - reference_BJ)
        return loss_B - self.config.msl * log_prob_BJ[:, 0] if self.config.msl else loss_B
