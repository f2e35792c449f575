"""DMPO: the next item preferred to the mean of several others.

Source: Bai et al., "Aligning Large Language Model with Direct Multi-Preference Optimization for
Recommendation", CIKM 2024, in the form that DynamicPO's released code gives it. (DMPO's own release trains
pairs, and passes the chosen answer's reference for both sides, which leaves no reference.)
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


def dmpo(reward_BJ: Tensor, *, beta: float = 1.0) -> Tensor:
    """``softplus(mean_j beta (r_j - r_p))``, in fp32 (fp64 for fp64 rewards), [B].

    Every negative has the same gradient. With one negative it is DPO, as S-DPO is; with equal rewards it is
    ln 2 for any K; it is never above S-DPO.

    Args:
        reward_BJ: log-probability under the policy minus that under the reference; column 0 is the
            positive, the others are the negatives.
        beta: inverse temperature of the preference.
    """
    reward_BJ = reward_BJ if reward_BJ.dtype == torch.float64 else reward_BJ.float()
    return functional.softplus(beta * (reward_BJ[:, 1:] - reward_BJ[:, :1]).mean(1))


@losses.register("dmpo")
class DMPO(PreferenceLoss):
    """Preference of the target over the mean of K other titles, starting from the LML model."""

    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "beta": (0.1, 0.5, 1.0, 3.0),
        "negatives": (1, 3, 5, 8),
    }

    def of_rewards(self, reward_BJ: Tensor) -> Tensor:
        """See ``dmpo``."""
        return dmpo(reward_BJ, beta=self.config.beta)
