"""RecBole's Transformer layers, computed with less work from the same parameters.

The last layer is evaluated only where its output is read (one position a row for SASRec, the masked ones
for BERT4Rec), query, key and value come from one product, and GELU is one kernel instead of four. In
evaluation mode the result equals RecBole's own to rounding; in training dropout is drawn in another order,
with the same law.

Axes: B rows, L positions, D width, M read positions, A heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(Protocol):
    """The attributes of RecBole's MultiHeadAttention that are used here."""

    num_attention_heads: int
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    dense: nn.Linear
    attn_dropout: nn.Dropout
    out_dropout: nn.Dropout
    LayerNorm: nn.LayerNorm


class FeedForward(Protocol):
    """The attributes of RecBole's FeedForward that are used here."""

    dense_1: nn.Linear
    dense_2: nn.Linear
    dropout: nn.Dropout
    LayerNorm: nn.LayerNorm
    intermediate_act_fn: Callable[[Tensor], Tensor]


class Layer(Protocol):
    """The attributes of RecBole's TransformerLayer that are used here."""

    multi_head_attention: Attention
    feed_forward: FeedForward


def run_layers(
    layers: Sequence[Layer],
    hidden_BLD: Tensor,
    mask: Tensor,
    place_M: Tensor,
    row_M: Tensor | None = None,
) -> Tensor:
    """All layers over all positions, but the last one only at the read positions.

    Args:
        layers: RecBole's TransformerLayer modules.
        hidden_BLD: embedded input.
        mask: added to the attention scores, broadcastable to [B, A, L, L].
        place_M: index of each read position in its row.
        row_M: row of each read position; None for one position a row, in order.

    Returns:
        The output at the read positions, [M, D].
    """
    for layer in layers[:-1]:
        hidden_BLD = full_layer(layer, hidden_BLD, mask)
    return read_layer(layers[-1], hidden_BLD, mask, place_M, row_M)


def full_layer(layer: Layer, hidden_BLD: Tensor, mask: Tensor) -> Tensor:
    """One layer at every position, [B, L, D].

    Args:
        layer: RecBole's TransformerLayer.
        hidden_BLD: its input.
        mask: added to the attention scores.
    """
    attention = layer.multi_head_attention
    parts = (attention.query, attention.key, attention.value)
    n_heads, (B, L, D) = attention.num_attention_heads, hidden_BLD.shape
    # one product for query, key and value launches a third of the kernels
    packed = project(parts, hidden_BLD).view(B, L, 3, n_heads, D // n_heads)
    query, key, value = packed.permute(2, 0, 3, 1, 4)
    score_BALL = query @ key.transpose(-1, -2) / math.sqrt(D // n_heads) + mask
    weight_BALL = attention.attn_dropout(score_BALL.softmax(-1))
    context_BLD = (weight_BALL @ value).transpose(1, 2).reshape(B, L, D)
    return _finish(layer, context_BLD, hidden_BLD)


def read_layer(
    layer: Layer,
    hidden_BLD: Tensor,
    mask: Tensor,
    place_M: Tensor,
    row_M: Tensor | None,
) -> Tensor:
    """One layer at the read positions only, [M, D].

    Args:
        layer: RecBole's TransformerLayer.
        hidden_BLD: its input.
        mask: added to the attention scores.
        place_M: index of each read position in its row.
        row_M: row of each read position; None for one position a row, in order.
    """
    attention = layer.multi_head_attention
    n_heads, (B, L, D) = attention.num_attention_heads, hidden_BLD.shape
    width = D // n_heads
    rows_M = torch.arange(B, device=hidden_BLD.device) if row_M is None else row_M
    read_MD = hidden_BLD[rows_M, place_M]
    packed = project((attention.key, attention.value), hidden_BLD).view(B, L, 2, n_heads, width)
    key, value = packed.permute(2, 0, 3, 1, 4)
    if row_M is not None:
        key, value = key[row_M], value[row_M]
    query = project((attention.query,), read_MD).view(-1, n_heads, 1, width)
    mask_MAL = mask.expand(B, -1, L, L)[rows_M, :, place_M].unsqueeze(2)
    score = query @ key.transpose(-1, -2) / math.sqrt(width) + mask_MAL
    context_MD = (attention.attn_dropout(score.softmax(-1)) @ value).reshape(-1, D)
    return _finish(layer, context_MD, read_MD)


def norm_first_layer(layer: Layer, hidden_BLD: Tensor, mask: Tensor) -> Tensor:
    """One layer at every position with its norms in front, as SASRec's authors have it, [B, L, D].

    Queries are normalised, keys and values are not, and what is added to the output of attention and of the
    feed-forward block is its normalised input (Kang and McAuley, ICDM 2018, released code). The sum of the
    last layer is left for the caller to normalise.

    Args:
        layer: RecBole's TransformerLayer.
        hidden_BLD: its input.
        mask: added to the attention scores.
    """
    attention, forward = layer.multi_head_attention, layer.feed_forward
    n_heads, (B, L, D) = attention.num_attention_heads, hidden_BLD.shape
    normal_BLD = attention.LayerNorm(hidden_BLD)
    query = attention.query(normal_BLD).view(B, L, n_heads, -1).transpose(1, 2)
    packed = project((attention.key, attention.value), hidden_BLD).view(B, L, 2, n_heads, -1)
    key, value = packed.permute(2, 0, 3, 1, 4)
    score_BALL = query @ key.transpose(-1, -2) / math.sqrt(D // n_heads) + mask
    weight_BALL = attention.attn_dropout(score_BALL.softmax(-1))
    context_BLD = (weight_BALL @ value).transpose(1, 2).reshape(B, L, D)
    hidden_BLD = normal_BLD + attention.out_dropout(attention.dense(context_BLD))
    normal_BLD = forward.LayerNorm(hidden_BLD)
    inner = forward.intermediate_act_fn(forward.dense_1(normal_BLD))
    return normal_BLD + forward.dropout(forward.dense_2(inner))


def project(parts: Iterable[nn.Linear], hidden: Tensor) -> Tensor:
    """The outputs of several linear maps of one input side by side, computed as one matrix product.

    Args:
        parts: the maps.
        hidden: the input.
    """
    parts = tuple(parts)
    if len(parts) == 1:
        return parts[0](hidden)
    weight = torch.cat([part.weight for part in parts])
    return F.linear(hidden, weight, torch.cat([part.bias for part in parts]))


def _finish(layer: Layer, context: Tensor, residual: Tensor) -> Tensor:
    """Output projection, feed-forward block and their post-norms."""
    attention, forward = layer.multi_head_attention, layer.feed_forward
    hidden = attention.LayerNorm(attention.out_dropout(attention.dense(context)) + residual)
    # RecBole's own GELU takes four kernels
    activate = F.relu if forward.intermediate_act_fn is F.relu else F.gelu
    inner = activate(forward.dense_1(hidden))
    return forward.LayerNorm(forward.dropout(forward.dense_2(inner)) + hidden)


def causal_mask(length: int, device: torch.device) -> Tensor:
    """Attention mask [1, 1, L, L]: 0 where a position may be read, a large negative number elsewhere.

    Rows are left-aligned, so padding only follows the items and is never read by them.

    Args:
        length: L.
        device: where it is needed.
    """
    future = torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
    return torch.zeros(length, length, device=device).masked_fill(future, -10000.0)[None, None]


def padding_mask(ids_BL: Tensor) -> Tensor:
    """0 at items, a large negative number at padding, [B, 1, 1, L]."""
    return torch.where(ids_BL[:, None, None, :] != 0, 0.0, -10000.0)
