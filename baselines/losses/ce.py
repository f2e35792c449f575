"""Cross-entropy: softmax over all items at the last position (RecBole's, without the padding row)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from baselines.losses.base import ItemLoss, Trained
from bench.registry import losses


@losses.register("ce")
class CE(ItemLoss):
    """Softmax over the items at the last position of a history."""

    def __call__(self, trained: Trained) -> Tensor:
        """``logsumexp_j s_j - s_target``, the mean; padding would be a perpetual negative and is left out."""
        return F.cross_entropy(trained.logit_MN, trained.target_M - 1)
