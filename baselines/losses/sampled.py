"""Softmax over the target and negatives that the whole batch shares: LLM-CF's released loss."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from baselines.losses.base import ItemLoss, Trained
from bench.config import Config
from bench.registry import losses


class SampledConfig(Config):
    """Options of the sampled softmax."""

    negatives: PositiveInt = 128
    """How many items a batch shares as negatives."""


@losses.register("sampled")
class Sampled(ItemLoss):
    """Softmax over the target and uniform negatives shared by the batch."""

    Config = SampledConfig

    def draw(
        self, history_BH: Tensor, target_B: Tensor, n_items: int, rng: np.random.Generator
    ) -> Tensor:
        """Items for the whole batch, with repeats, [negatives]."""
        return torch.from_numpy(rng.integers(1, n_items + 1, self.config.negatives)).to(
            target_B.device
        )

    def __call__(self, trained: Trained) -> Tensor:
        """Cross-entropy of the target; a negative that happens to be the target is left out of that row."""
        table = trained.scorer.item_table()
        own_M1 = (trained.state_MD * table[trained.target_M]).sum(1, keepdim=True)
        other_ME = trained.state_MD @ table[trained.drawn].T
        other_ME = other_ME.masked_fill(trained.target_M[:, None] == trained.drawn, -torch.inf)
        logit_MC = torch.cat([own_M1, other_ME], 1)
        return F.cross_entropy(logit_MC, torch.zeros_like(trained.target_M))
