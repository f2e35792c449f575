"""SASRec's network with the cosine in place of the dot product.

Axes: B batch, H history, N items, D width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from baselines.causal import CausalModel


class CosineModel(CausalModel):
    """A causal Transformer whose scores are ``cos(state, item) / tau``, or dot products if tau is None.

    States and item vectors leave it scaled, so that every loss and every reader of its vectors may go on
    taking dot products. A vector of zeros has a cosine of 0 with everything.

    Attributes:
        tau: temperature of the scores.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.tau: float | None = config["tau"]

    def compared(self, state: Tensor) -> Tensor:
        """States as item vectors are compared with them, same shape [..., D]."""
        return state if self.tau is None else F.normalize(state, dim=-1) / self.tau

    def item_table(self) -> Tensor:
        """Vectors that user vectors are compared with, [N + 1, D]; row 0 is padding."""
        table_ND = self.input_table()
        return table_ND if self.tau is None else F.normalize(table_ND, dim=-1)

    def encode(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """User vectors, [B, D]; see CausalModel."""
        return self.compared(super().encode(item_BH, length_B))

    def states(self, item_BH: Tensor) -> Tensor:
        """The state after each item, [B, H, D]."""
        return self.compared(super().states(item_BH))
