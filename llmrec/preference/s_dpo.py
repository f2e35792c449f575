"""S-DPO: the next item preferred to several others at once.

Source: Chen et al., "On Softmax Direct Preference Optimization for Recommendation", NeurIPS 2024. The
reward of an answer is ``log pi(y|x) - log pi_ref(y|x)``; the reference is the model before this training.
B rows, J = 1 + K answers a row (the positive first).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from bench.registry import losses
from llmrec.preference.base import PreferenceLoss


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


@losses.register("s_dpo")
class SDPO(PreferenceLoss):
    """Softmax preference of the target over K other titles, starting from the LML model."""

    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "beta": (0.1, 0.5, 1.0, 3.0),
        "negatives": (1, 3, 5),
    }

    def of_rewards(self, reward_BJ: Tensor) -> Tensor:
        """See ``s_dpo``."""
        return s_dpo(reward_BJ, beta=self.config.beta)
