"""The best candidates of many users at once, as tensors. B users, C candidates, X kept."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = torch.iinfo(torch.int64).min


def best(score_BC: Tensor, tie_BC: Tensor, width: int) -> Tensor:
    """Columns of the ``width`` best candidates of each user, best first, ties to the smaller ``tie_BC``.

    Args:
        score_BC: higher is better; -inf for no candidate.
        tie_BC: decides between equal scores, int64, not negative.
        width: candidates wanted, at most C.

    Returns:
        int64 [B, width].
    """
    # the library's top k breaks ties anyhow, so it is only asked for the last score that gets in
    last_B1 = score_BC.topk(width, 1).values[:, -1:]
    key_BC = torch.where(score_BC == last_B1, -1 - tie_BC, LEAST)
    near_BX = key_BC.masked_fill(score_BC > last_B1, 0).topk(width, 1, sorted=False).indices
    order_BX = in_order(score_BC.gather(1, near_BX), tie_BC.gather(1, near_BX))
    return near_BX.gather(1, order_BX)


def in_order(score_BX: Tensor, tie_BX: Tensor) -> Tensor:
    """Columns by falling score, ties by rising ``tie_BX``, int64 [B, X]."""
    by_tie_BX = tie_BX.argsort(dim=1, stable=True)
    by_score_BX = score_BX.gather(1, by_tie_BX).argsort(dim=1, descending=True, stable=True)
    return by_tie_BX.gather(1, by_score_BX)
