"""The distributionally robust term of DROS (Yang et al., SIGIR 2023).

For scores s, target t and c_j, how often j is a training target::

    p_j   = ((c_j + 1) / sum_k (c_k + 1)) ^ power
    L_dro = logsumexp_j( p_j (s_j - [j = t])^2 / beta )

Padding has no propensity and does not enter the sum. The authors subtract and add exponentials instead, which
overflows from |s| of about 12 on.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor

from baselines.losses.base import ItemLoss, Trained
from bench.component import Kind
from bench.config import Config
from bench.registry import losses


class DROConfig(Config):
    """Options of the robust term."""

    beta: PositiveFloat = 1.0
    """Temperature."""
    power: float = 0.05
    """Exponent of the item propensities."""


@losses.register("dro")
class DRO(ItemLoss):
    """DROS's robust term over all items, weighted by popularity; methods add it to a loss.

    Attributes:
        propensity_N: p of the items 1..N.
    """

    kind: ClassVar[Kind] = "item_term"
    Config = DROConfig

    def __init__(self, config: Any = None, *, count_N: Tensor) -> None:
        """As every loss; the propensities are those of the counts."""
        super().__init__(config, count_N=count_N)
        share_N = (count_N.cpu() + 1) / (count_N.cpu() + 1).sum()
        self.propensity_N = (share_N**self.config.power).to(count_N.device)

    def __call__(self, trained: Trained) -> Tensor:
        """Mean of L_dro, in fp32 (fp64 for fp64 scores)."""
        own_M1 = trained.target_M[:, None] - 1
        logit_MN = trained.logit_MN
        logit_MN = logit_MN if logit_MN.dtype == torch.float64 else logit_MN.float()
        minus_M1 = -torch.ones_like(own_M1).to(logit_MN.dtype)
        error_MN = logit_MN.scatter_add(1, own_M1, minus_M1)
        return (self.propensity_N * error_MN.square() / self.config.beta).logsumexp(1).mean()
