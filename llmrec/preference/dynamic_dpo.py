"""DynamicPO: DMPO over the negatives nearest the boundary, each with an inverse temperature of its own.

Source: DynamicPO's released code (its paper could not be read). Negatives that the policy finds at least as
probable as the positive are kept; where there are none, the most probable of three clusters of negatives is.
Departures: the clusters are the exact best split of the log-probabilities, where the code draws k-means with
a seed; where the denominator of beta_j is 0, beta_j is beta, where the code gives NaN.
B rows, J = 1 + K answers a row (the positive first).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from bench.registry import losses
from llmrec.preference.base import PreferenceConfig
from llmrec.preference.dmpo import DMPO

LEAST = 3  # negatives that can be split into three clusters
SCALE, SHIFT = 0.5, 2.0  # of beta_j, constants of the released code


def boundary(log_prob_BJ: Tensor) -> Tensor:
    """Negatives that count, bool [B, K], at least one a row.

    Args:
        log_prob_BJ: of the answers under the policy, the positive first; K is at least 3.
    """
    negative_BK = log_prob_BJ[:, 1:]
    harder_BK = negative_BK >= log_prob_BJ[:, :1]
    top_BK = negative_BK >= _lowest_of_top(negative_BK)[:, None]
    return torch.where(harder_BK.any(1, keepdim=True), harder_BK, top_BK)


def _lowest_of_top(value_BK: Tensor) -> Tensor:
    """The lowest value in the uppermost of three clusters with the least squared distance in all, [B]."""
    sorted_BK = value_BK.sort(1).values
    size = sorted_BK.shape[1]
    cuts = [(low, high) for low in range(1, size - 1) for high in range(low + 1, size)]
    parts = [(sorted_BK[:, :a], sorted_BK[:, a:b], sorted_BK[:, b:]) for a, b in cuts]
    spread_BC = torch.stack([torch.stack([*map(_spread, part)]).sum(0) for part in parts], 1)
    high_C = torch.tensor([high for _, high in cuts], device=value_BK.device)
    return sorted_BK.gather(1, high_C[spread_BC.argmin(1)][:, None])[:, 0]


def _spread(part_BN: Tensor) -> Tensor:
    """Squared distances from the mean, summed, [B]."""
    return (part_BN - part_BN.mean(1, keepdim=True)).square().sum(1)


def betas(log_prob_BJ: Tensor, kept_BK: Tensor, *, beta: float) -> Tensor:
    """The inverse temperature of each negative, within 0.5 and 1.5 times beta, [B, K].

    ``beta (1 + 0.5 tanh((D1 - D2 - 2) / (|D1| + |D2|)))``: D1 is the positive's log-probability above the
    negative's, D2 the negative's above the mean of those that are not kept (of all where all are).

    Args:
        log_prob_BJ: of the answers under the policy, the positive first.
        kept_BK: negatives that count.
        beta: the middle of the range.
    """
    negative_BK = log_prob_BJ[:, 1:]
    rest_BK = torch.where(kept_BK.all(1, keepdim=True), kept_BK, ~kept_BK)
    mean_B1 = (negative_BK * rest_BK).sum(1, keepdim=True) / rest_BK.sum(1, keepdim=True)
    first_BK, second_BK = log_prob_BJ[:, :1] - negative_BK, negative_BK - mean_B1
    size_BK = first_BK.abs() + second_BK.abs()
    ratio_BK = (first_BK - second_BK - SHIFT) / size_BK.masked_fill(size_BK == 0, 1.0)
    return beta * torch.where(size_BK == 0, 1.0, 1 + SCALE * ratio_BK.tanh())


class DynamicConfig(PreferenceConfig):
    """Options of DynamicPO."""

    negatives: Annotated[int, Field(ge=LEAST)] = 5
    """K, titles a row that the target is compared with; three clusters need three at least."""


@losses.register("dynamic_dpo")
class DynamicDPO(DMPO):
    """Preference of the target over the titles at its boundary, starting from the LML model."""

    Config = DynamicConfig
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "beta": (0.1, 0.5, 1.0, 3.0),
        "negatives": (3, 5, 8),
    }

    def of_log_probs(self, log_prob_BJ: Tensor, reference_BJ: Tensor) -> Tensor:
        """``-log sigmoid(mean_j beta_j (r_p - r_j))`` over the negatives at the boundary, [B].

        Args:
            log_prob_BJ: of the answers under the policy; boundary and beta_j come from it, without gradient.
            reference_BJ: the same under the reference.
        """
        policy_BJ = log_prob_BJ.detach()
        policy_BJ = policy_BJ if policy_BJ.dtype == torch.float64 else policy_BJ.float()
        kept_BK = boundary(policy_BJ)
        beta_BK = betas(policy_BJ, kept_BK, beta=self.config.beta)
        reward_BJ = (log_prob_BJ - reference_BJ).to(policy_BJ.dtype)
        gap_BK = beta_BK * (reward_BJ[:, 1:] - reward_BJ[:, :1])
        return functional.softplus((gap_BK * kept_BK).sum(1) / kept_BK.sum(1))
