"""S-DPO: the next item preferred to several others at once.

Source: Chen et al., "On Softmax Direct Preference Optimization for Recommendation", NeurIPS 2024. The
reward of an answer is ``log pi(y|x) - log pi_ref(y|x)``, each a sum over all answer tokens (end token
included) under the softmax over the whole vocabulary; the reference is the model before this training.
B rows, J = 1 + K answers a row (the positive first), R answer tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from bench.config import Config
from bench.registry import losses
from llmrec.lm.head import Head
from llmrec.losses.base import Answers, Kind, Loss, NotFinite
from llmrec.losses.lml import lml

if TYPE_CHECKING:
    from bench.cell import Run
    from bench.types import Windows
    from llmrec.generative._generative import Generative
    from llmrec.training.loop import Training


def s_dpo(reward_BJ: Tensor, *, beta: float = 1.0) -> Tensor:
    """``-log softmax(beta r)`` of the positive, in fp32 (fp64 for fp64 rewards), [B].

    Written as ``softplus(logsumexp_j beta (r_j - r_p))``. The released code exponentiates first and
    overflows where ``beta (r_j - r_p)`` exceeds 88; this agrees with it wherever that is finite. With
    one negative it is DPO's ``-log sigmoid(beta (r_p - r_j))``; with equal rewards it is ln(1 + K).

    Args:
        reward_BJ: log-probability under the policy minus that under the reference; column 0 is the
            positive, the others are the negatives.
        beta: inverse temperature of the preference.
    """
    reward_BJ = reward_BJ if reward_BJ.dtype == torch.float64 else reward_BJ.float()
    gap_BK = beta * (reward_BJ[:, 1:] - reward_BJ[:, :1])
    return functional.softplus(gap_BK.logsumexp(1))


class SDPOConfig(Config):
    """Stage two of S-DPO; defaults are the authors' scripts."""

    negatives: PositiveInt = 3
    """K, titles a row that the target is preferred to."""
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
    resample: Literal["once", "epoch"] = "once"
    """Draw the negatives once, or anew each epoch."""
    sampling: Literal["uniform", "popularity"] = "uniform"
    """``uniform`` over the catalogue, or ``popularity``: in proportion to one plus the number of training
    rows with that target."""
    class_aware: bool = True
    """A title is drawn at most once a row and never if it equals the target's or one of the history's;
    False compares item ids only, as the authors do."""
    dropout: bool = False
    """Keep the adapters' dropout in training, as the authors do. Without it the first loss is ln(1 + K)
    exactly and every route gives the same gradients."""
    route: Literal["shared_prefix", "plain", "trl"] = "shared_prefix"
    """``shared_prefix`` computes a prompt once for all its answers, ``plain`` once for each, ``trl`` trains
    with TRL's DPOTrainer and its reference adapter (adapters only)."""


@losses.register("s_dpo")
class SDPO(Loss):
    """Softmax preference of the target over K other titles, starting from the LML model."""

    kind: ClassVar[Kind] = "preference"
    Config = SDPOConfig
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "beta": (0.1, 0.5, 1.0, 3.0),
        "negatives": (1, 3, 5),
    }

    @classmethod
    def training(cls, method: Generative, train: Windows, run: Run) -> Training:
        """Rows with negatives and reference log-probabilities, made with the method's start model.

        Raises:
            ConfigError: too few titles for the negatives, or a route that the backbone cannot take.
            ContractError: the reference gives a log-probability that is not finite.
        """
        # imported here so that the loss alone needs nothing of data or training
        from llmrec.preference.training import training

        return training(cls, method, train, run)

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """Negative log-probability of each answer token, what rewards are summed from, [R]."""
        return lml(hidden_RD, head, answers.token_R)

    def preference(self, log_prob_BJ: Tensor, reference_BJ: Tensor) -> Tensor:
        """The loss of each row, [B].

        Args:
            log_prob_BJ: of the answers under the policy, the positive first.
            reference_BJ: the same under the reference.

        Raises:
            NotFinite: the loss is not finite.
        """
        loss_B = s_dpo(log_prob_BJ - reference_BJ, beta=self.config.beta)
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
