"""Explicit attention masks, in the form that a model of transformers takes as they are.

B rows, L query tokens, M key tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone


def additive(see_BLM: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to attention scores, [B, 1, L, M].

    Args:
        see_BLM: True where a query may see a key.
        dtype: of the scores.
    """
    zero = torch.zeros(see_BLM.shape, dtype=dtype, device=see_BLM.device)
    return zero.masked_fill_(~see_BLM, torch.finfo(dtype).min)[:, None]


def additive_masks(
    lm: Backbone, see_BLM: Tensor, place_BL: Tensor, place_BM: Tensor, dtype: torch.dtype
) -> Any:
    """The additive mask [B, 1, L, M]; one per kind of layer where a model mixes kinds.

    Args:
        lm: its configuration says which layers look no further than a window.
        see_BLM: True where a query may see a key.
        place_BL: position of each query in its text.
        place_BM: position of each key in its text.
        dtype: of the embeddings.
    """
    config = lm.causal.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if not window or (kinds and "sliding_attention" not in kinds):
        return additive(see_BLM, dtype)
    near_BLM = place_BL[:, :, None] - place_BM[:, None] < window
    if len(kinds) <= 1:
        return additive(see_BLM & near_BLM, dtype)
    return {
        "full_attention": additive(see_BLM, dtype),
        "sliding_attention": additive(see_BLM & near_BLM, dtype),
    }
