"""The network of HSTU: gated attention without softmax, scale or feed-forward (Zhai et al., ICML 2024).

One block over X [B, L, D], with A heads of width E = W / A::

    U, V, Q, K = split(SiLU(norm(X) M))        M [D, 4 W], normal with deviation .02
    S = SiLU(Q K^T + b) / n  where a position may read, else 0     b one weight for each distance
    X + O(drop(U * norm(S V)))

The norms have no parameters; the second one is over all heads together. n is the longest history the model
reads, the padded length, and not that of the row: the sums are small at the start, near the epsilon of the
norm, so n decides how fast the blocks begin to learn.

Axes: B batch, H history, L positions, D width, W width of all heads, A heads, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.cosine import CosineModel

NORM_EPS = 1e-6


class Block(nn.Module):
    """One block of HSTU.

    Args:
        width: D.
        inner: W, a multiple of ``heads``.
        heads: A.
        length: n, the longest history.
        dropout: of the gated output.
    """

    def __init__(self, width: int, inner: int, heads: int, length: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.inner, self.length = heads, inner, length
        self.into = nn.Parameter(torch.empty(width, 4 * inner).normal_(0, 0.02))
        self.out = nn.Linear(inner, width)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        # one weight for each distance, shared by the heads
        self.position = nn.Parameter(torch.empty(2 * length - 1).normal_(0, 0.02))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """The block's output, [B, L, D]; L is at most n."""
        mixed = F.silu(F.layer_norm(hidden_BLD, hidden_BLD.shape[-1:], eps=NORM_EPS) @ self.into)
        gate_BLW, *parts = mixed.split(self.inner, dim=-1)
        value, query, key = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        read_BLW = (self.weights(query, key) @ value).transpose(1, 2).flatten(2)
        read_BLW = F.layer_norm(read_BLW, read_BLW.shape[-1:], eps=NORM_EPS)
        out: Tensor = hidden_BLD + self.out(self.dropout(gate_BLW * read_BLW))
        return out

    def weights(self, query_BALE: Tensor, key_BALE: Tensor) -> Tensor:
        """How much each position takes from each earlier one and itself, [B, A, L, L].

        Args:
            query_BALE: queries.
            key_BALE: keys.
        """
        score_BALL = query_BALE @ key_BALE.transpose(-1, -2) + self.bias(query_BALE.shape[2])
        return F.silu(score_BALL).tril() / self.length

    def bias(self, length: int) -> Tensor:
        """The weight of the distance between two positions, [L, L]."""
        place_L = torch.arange(length, device=self.position.device)
        return self.position[place_L[:, None] - place_L + self.length - 1]


class HSTUModel(CosineModel):
    """SASRec's frame, its items, losses and scores, around blocks of HSTU."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        del self.trm_encoder, self.LayerNorm
        self.blocks = nn.ModuleList(
            Block(
                self.hidden_size,
                self.inner_size,
                self.n_heads,
                self.max_seq_length,
                self.hidden_dropout_prob,
            )
            for _ in range(self.n_layers)
        )

    def placed(self, item_BH: Tensor) -> Tensor:
        """Item embeddings times sqrt(D), and those of their positions, [B, H, D]."""
        item_BHD = F.embedding(item_BH, self.input_table(), padding_idx=0)
        return item_BHD * self.hidden_size**0.5 + self.position_embedding.weight[: item_BH.shape[1]]

    def states(self, item_BH: Tensor) -> Tensor:
        """The state after each item, [B, H, D]."""
        hidden_BHD = self.dropout(self.placed(item_BH))
        for block in self.blocks:
            hidden_BHD = block(hidden_BHD)
        return self.compared(hidden_BHD)

    def encode(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """User vectors, [B, D]; see CausalModel."""
        return self.gather_indexes(self.states(item_BH), length_B - 1)
