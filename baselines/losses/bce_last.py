"""Binary cross-entropy at the last position only, as in the released code of DROS."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from baselines.losses.base import ItemLoss, Trained, other_items
from bench.registry import losses


@losses.register("bce_last")
class BCELast(ItemLoss):
    """One negative at the last position; mean of the two terms (DROS, released code)."""

    def draw(
        self, history_BH: Tensor, target_B: Tensor, n_items: int, rng: np.random.Generator
    ) -> Tensor:
        """An item other than the target for each row, [B]."""
        return other_items(target_B, n_items, rng)

    def __call__(self, trained: Trained) -> Tensor:
        """``(-log sigmoid(s_target) - log sigmoid(-s_negative)) / 2``, the mean."""
        positive_M1 = trained.logit_MN.gather(1, trained.target_M[:, None] - 1)
        negative_M1 = trained.logit_MN.gather(1, trained.drawn[:, None] - 1)
        return (F.softplus(-positive_M1).mean() + F.softplus(negative_M1).mean()) / 2
