"""Ranking where a user vector needs more than the history: examples and the user's place.

Axes: Q queries, C examples, B batch, N items, K list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from baselines.training import BLOCK, block
from bench.types import IntArray, Ragged, Ranking


@torch.inference_mode()
def rank(
    model: Any, history: Ragged, user_Q: IntArray, example_QC: IntArray, k: int, width: int
) -> Ranking:
    """The ``k`` best items for each query, in blocks of one shape.

    Args:
        model: an ``InContextModel``.
        history: items seen before.
        user_Q: users' places, 0 unknown.
        example_QC: retrieved entries.
        k: length of the lists.
        width: longest history read.
    """
    device = next(model.parameters()).device
    model.eval()
    item_QK = np.zeros((len(history), k), np.int32)
    score_QK = np.full((len(history), k), -np.inf, np.float32)
    feature_MD = model.all_features()
    for start in range(0, len(history), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(history)))
        item_BH, length_B = block(history, rows, width, device)
        padded = np.pad(rows, (0, BLOCK - len(rows)), mode="edge")
        user_B, example_BC = (
            torch.from_numpy(np.ascontiguousarray(x[padded])).to(device)
            for x in (user_Q, example_QC)
        )
        user_BD, _ = model.informed(item_BH, length_B, user_B, example_BC, feature_MD)
        score_BN = F.pad(model.logits(user_BD), (1, 0), value=-torch.inf)[: len(rows)]
        best = score_BN.topk(min(k, model.n_items - 1))
        item_QK[rows, : best.indices.shape[1]] = best.indices.cpu().numpy()
        score_QK[rows, : best.values.shape[1]] = best.values.cpu().numpy()
    return Ranking(item_QK, score_QK)
