"""The base class of preference losses.

A row is a prompt with the answer that was chosen and K that were not. The reward of an answer is
``log pi(y|x) - log pi_ref(y|x)``, each a sum over all answer tokens (end token included) under the softmax
over the whole vocabulary; the reference is the model before this training. A new preference loss is one
file: a subclass with its formula in ``of_rewards``, registered by name. Negatives, reference
log-probabilities, recipe and route come with the base class.
B rows, J = 1 + K answers a row (the positive first), R answer tokens, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from bench import component
from bench.config import Config
from bench.types import FloatArray
from llmrec.lm.head import Head
from llmrec.losses.base import Answers, Loss, NotFinite
from llmrec.losses.lml import lml


class NegativesConfig(Config):
    """Options of every training with several answers to a prompt."""

    negatives: PositiveInt = 3
    """K, titles a row that the target is preferred to."""
    resample: Literal["once", "epoch"] = "once"
    """Draw the negatives once, or anew each epoch."""
    sampling: Literal["uniform", "popularity"] = "uniform"
    """``uniform`` over the catalogue, or ``popularity``: in proportion to one plus the number of training
    rows with that target."""
    class_aware: bool = True
    """A title is drawn at most once a row and never if it equals the target's or one of the history's;
    False compares item ids only, as the authors do."""
    route: Literal["shared_prefix", "plain"] = "shared_prefix"
    """``shared_prefix`` computes a prompt once for all its answers, ``plain`` once for each."""


class PreferenceConfig(NegativesConfig):
    """Options of every preference training; the defaults are those of the S-DPO authors' scripts."""

    beta: PositiveFloat = 1.0
    """Inverse temperature of the preference."""
    epochs: PositiveInt = 3
    """Passes over the rows; the best by validation NDCG@5 is kept."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate of a pretrained backbone."""
    scratch_lr: PositiveFloat = 1e-4
    """Peak learning rate of a backbone without pretraining."""
    clip: PositiveFloat = 0.3
    """Largest gradient norm."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """Course of the learning rate after the warm-up."""
    warmup: Annotated[float, Field(ge=0, le=0.1)] = 0.05
    """Share of the steps with a rising learning rate."""
    dropout: bool = False
    """Keep the adapters' dropout in training, as the authors do. Without it the first loss is ln(1 + K)
    exactly and every route gives the same gradients."""
    route: Literal["shared_prefix", "plain", "trl"] = "shared_prefix"  # type: ignore[assignment]
    """``shared_prefix`` computes a prompt once for all its answers, ``plain`` once for each, ``trl`` trains
    with TRL's DPOTrainer and its reference adapter (adapters only)."""


class PreferenceLoss(Loss):
    """A loss over the rewards of a row's answers, trained from the weights that LML left.

    One that sets ``starts_tuned`` to False is trained in LML's place, by the method's own recipe and without
    a reference model: ``reference_of_title`` then stands for it.
    """

    kind: ClassVar[component.Kind] = "preference"
    contract: ClassVar[str] = "llmrec.preference.contract"
    Config: ClassVar[type[Config]] = PreferenceConfig
    starts_tuned: ClassVar[bool] = True
    config: Any

    @property
    def beta(self) -> float:
        """Inverse temperature of the preference."""
        return float(self.config.beta)

    def reference_of_title(self) -> FloatArray:
        """What is taken off each title's log-probability without a reference model, by leaf; zeros."""
        return np.zeros(self.trie.n_leaves, np.float32)

    @abstractmethod
    def of_rewards(self, reward_BJ: Tensor) -> Tensor:
        """The loss of each row, [B].

        Args:
            reward_BJ: log-probability under the policy minus that under the reference; column 0 is the
                positive, the others are the negatives.
        """

    def of_log_probs(self, log_prob_BJ: Tensor, reference_BJ: Tensor) -> Tensor:
        """The loss of each row, [B]; for a loss that asks for more than rewards.

        Args:
            log_prob_BJ: of the answers under the policy, the positive first.
            reference_BJ: the same under the reference.
        """
        return self.of_rewards(log_prob_BJ - reference_BJ)

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """Negative log-probability of each answer token, [R]; rewards are sums of these."""
        return lml(hidden_RD, head, answers.token_R)

    def preference(self, log_prob_BJ: Tensor, reference_BJ: Tensor) -> Tensor:
        """The loss of each row, [B].

        Args:
            log_prob_BJ: of the answers under the policy, the positive first.
            reference_BJ: the same under the reference.

        Raises:
            NotFinite: the loss is not finite.
        """
        loss_B = self.of_log_probs(log_prob_BJ, reference_BJ)
        if not torch.isfinite(loss_B.detach().sum()):
            bad = torch.nonzero(~torch.isfinite(loss_B)).flatten()[:8].tolist()
            raise NotFinite.at(
                bad,
                "rows",
                f"{self.name}: the loss is not finite at {{where}} (log-probabilities "
                f"{log_prob_BJ[bad].tolist()}, reference {reference_BJ[bad].tolist()}); lower the "
                "learning rate or look at these rows",
            )
        return loss_B
