"""Ranking where a user vector depends on more than the history: on retrieved examples and the user.

Axes: Q queries, C examples, B batch, N items, K list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines import training
from bench.types import IntArray, Ragged, Ranking


def rank(
    model: Any, history: Ragged, user_Q: IntArray, example_QC: IntArray, k: int, width: int
) -> Ranking:
    """The ``k`` best items for each query, in blocks of one shape.

    Args:
        model: an ``InContextModel``.
        history: items seen before.
        user_Q: users' numbers in the user table, 0 for unknown ones.
        example_QC: retrieved entries.
        k: length of the lists.
        width: longest history read.
    """
    with torch.inference_mode():
        feature_MD = model.eval().all_features()

    def scores(query_B: IntArray, item_BH: Tensor, length_B: Tensor) -> Tensor:
        user_B, example_BC = (
            torch.from_numpy(np.ascontiguousarray(x[query_B])).to(item_BH.device)
            for x in (user_Q, example_QC)
        )
        user_BD, _ = model.informed(item_BH, length_B, user_B, example_BC, feature_MD)
        return F.pad(model.logits(user_BD), (1, 0), value=-torch.inf)

    return training.rank(model, history, k, width, scores)
