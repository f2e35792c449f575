"""Cross-entropy over every interaction, where ``ce`` passes over those before a user's first target."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from baselines.losses.base import ItemLoss, Positions, Trained
from bench.registry import losses


def mean_or_zero(logit_MN: Tensor, target_M: Tensor) -> Tensor:
    """Mean cross-entropy over the positions, 0 where there are none.

    Args:
        logit_MN: scores of the items 1..N.
        target_M: target ids, 1..N.
    """
    total = F.cross_entropy(logit_MN, target_M - 1, reduction="sum")
    return total / max(len(target_M), 1)


@losses.register("ce_all")
class CEAll(ItemLoss):
    """Softmax over the items at every interaction of the training rows, each once."""

    positions: ClassVar[Positions] = "once"

    def __call__(self, trained: Trained) -> Tensor:
        """Mean over the trained positions of the batch."""
        return mean_or_zero(trained.logit_MN, trained.target_M)
