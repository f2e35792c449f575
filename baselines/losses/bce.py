"""Binary cross-entropy with one sampled negative at every position: SASRec's own loss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.losses.base import ItemLoss, Positions, Trained, outside_window
from bench.registry import losses


@losses.register("bce")
class BCE(ItemLoss):
    """One negative outside the window at every position (Kang and McAuley, ICDM 2018, equation 7)."""

    positions: ClassVar[Positions] = "all"

    def draw(
        self, history_BH: Tensor, target_B: Tensor, n_items: int, rng: np.random.Generator
    ) -> Tensor:
        """An item outside the row's window for each position, [B, H]."""
        window_BL = torch.cat([history_BH, target_B[:, None]], 1)
        return outside_window(window_BL, history_BH.shape[1], n_items, rng).to(history_BH.device)

    def __call__(self, trained: Trained) -> Tensor:
        """``-log sigmoid(s_target) - log sigmoid(-s_negative)``, mean over the positions."""
        table = trained.scorer.item_table()
        positive_M = (trained.state_MD * F.embedding(trained.target_M, table)).sum(-1)
        negative_M = (trained.state_MD * F.embedding(trained.drawn, table)).sum(-1)
        return trained.mean(F.softplus(-positive_M) + F.softplus(negative_M))
