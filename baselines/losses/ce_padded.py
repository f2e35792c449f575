"""Cross-entropy as RecBole 1.2.1 computes it, whose softmax counts the padding row as an item."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from baselines.losses.base import ItemLoss, Trained
from bench.registry import losses


@losses.register("ce_padded")
class CEPadded(ItemLoss):
    """Softmax over the items and the padding row, RecBole's own."""

    trains_padding = True

    def __call__(self, trained: Trained) -> Tensor:
        """Mean over the last positions; padding is a negative of every row."""
        logit_MP = trained.state_MD @ trained.scorer.item_table().T
        return F.cross_entropy(logit_MP, trained.target_M)
