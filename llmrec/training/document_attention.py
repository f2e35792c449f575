"""Attention of texts that stand end to end: each sees the common opening and itself.

Everything in a layer but attention takes a token by itself, so it runs over the row of tokens and sees no
padding. For attention alone the tokens are put into a grid with a line for each text, whose keys are those of
the opening and its own, and the model's own attention runs on it under a mask. Each token has one cell, so
gradients come back by a look-up and no sum depends on the order of a device's threads.
N lines, L cells of a line, S tokens of the opening, M = S + L, T tokens in the row, H heads, d their width.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llmrec.decode.tree import check_attention
from llmrec.lm.masks import additive_masks

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone

NAME = "documents"
WIDTH = 8  # a line's length is a multiple of it


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the tokens of a row stand in a grid; all int64. The first line is the opening, if there is one.

    Attributes:
        token_NL: place in the row of each cell's token; 0 in empty cells.
        used_NL: 1 where a cell has a token, else 0.
        cell_T: cell of each real token, which come first in the row.
        shared: S.
        length: of the row, what fills it up included.
    """

    token_NL: Tensor
    used_NL: Tensor
    cell_T: Tensor
    shared: int
    length: int


# grid and kernel of the pass at hand; a layer's own arguments differ from model to model
_passes: list[tuple[Grid, str]] = []


class _ToGrid(torch.autograd.Function):
    """Values of the row's tokens [T, H, d] as values of the cells [N L, H, d]; empty cells get any."""

    @staticmethod
    def forward(ctx: Any, row_THd: Tensor, token_C: Tensor, cell_T: Tensor) -> Tensor:
        ctx.save_for_backward(token_C, cell_T)
        ctx.length = len(row_THd)
        return row_THd.index_select(0, token_C)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, back_CHd: Tensor) -> tuple[Tensor, None, None]:
        _, cell_T = ctx.saved_tensors
        return _filled_up(back_CHd.index_select(0, cell_T), ctx.length), None, None


class _ToRow(torch.autograd.Function):
    """Values of the cells [N L, H, d] as values of the row's tokens [T, H, d]; what fills it up gets 0."""

    @staticmethod
    def forward(ctx: Any, grid_CHd: Tensor, cell_T: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(cell_T)
        ctx.cells = len(grid_CHd)
        return _filled_up(grid_CHd.index_select(0, cell_T), length)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, back_THd: Tensor) -> tuple[Tensor, None, None]:
        (cell_T,) = ctx.saved_tensors
        empty = back_THd.new_zeros(ctx.cells, *back_THd.shape[1:])
        return empty.index_copy_(0, cell_T, back_THd[: len(cell_T)]), None, None


def _filled_up(real: Tensor, length: int) -> Tensor:
    whole = real.new_zeros(length, *real.shape[1:])
    whole[: len(real)] = real
    return whole


def documents_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **rest: Any
) -> tuple[Tensor, None]:
    """The model's own attention on the grid of the pass at hand.

    Args:
        module: the attention layer.
        query: [1, H, T, d].
        key: [1, H', T, d].
        value: [1, H', T, d'].
        attention_mask: of the grid, [N, 1, L, M].
        **rest: as transformers passes it.

    Returns:
        The row's [1, T, H, d'], and no weights.
    """
    grid, kernel = _passes[-1]
    size_N, shared = len(grid.token_NL), grid.shared
    token_C = grid.token_NL.reshape(-1)

    def lines(row_1HTd: Tensor) -> Tensor:
        cells = _ToGrid.apply(row_1HTd[0].transpose(0, 1), token_C, grid.cell_T)
        return cells.view(size_N, -1, *cells.shape[1:]).transpose(1, 2)

    def behind_opening(row_1HTd: Tensor) -> Tensor:
        opening = row_1HTd[:, :, :shared].expand(size_N, -1, -1, -1)
        return torch.cat([opening, lines(row_1HTd)], 2) if shared else lines(row_1HTd)

    keys, values = behind_opening(key), behind_opening(value)
    attend: Any = sdpa_attention_forward
    if kernel == "eager":  # which each family writes for itself
        attend = sys.modules[type(module).__module__].eager_attention_forward
    out, _ = attend(module, lines(query), keys, values, attention_mask, **rest)
    return _ToRow.apply(out.flatten(0, 1), grid.cell_T, grid.length)[None], None


# the grid of a pass has another shape each time, and a layer is compiled around it
AttentionInterface.register(NAME, torch.compiler.disable(documents_attention))


@contextmanager
def attending(lm: Backbone, grid: Grid) -> Iterator[None]:
    """Within this context the model's attention takes its one row of tokens for the lines of a grid.

    Args:
        lm: the model.
        grid: of the row.

    Raises:
        ConfigError: the model's attention kernel ignores explicit masks.
    """
    check_attention(lm)
    config = lm.causal.config.get_text_config()
    before, config._attn_implementation = config._attn_implementation, NAME
    _passes.append((grid, before))
    try:
        yield
    finally:
        _passes.pop()
        config._attn_implementation = before


def grid_masks(
    lm: Backbone, grid: Grid, place_T: Tensor, part_T: Tensor, dtype: torch.dtype
) -> Any:
    """The mask of a grid, [N, 1, L, M]; one per kind of layer where a model mixes kinds.

    Args:
        lm: the model.
        grid: of the row.
        place_T: position of each token in its text.
        part_T: 0 in a prompt, j + 1 in its answer j.
        dtype: of the embeddings.
    """
    (size_N, length), shared = grid.token_NL.shape, grid.shared
    place_NL, part_NL = place_T[grid.token_NL], part_T[grid.token_NL]
    same_NLL = (part_NL[:, None] == 0) | (part_NL[:, None] == part_NL[:, :, None])
    own_NLL = (same_NLL & (grid.used_NL > 0)[:, None]).tril_()
    # the opening is a line as well, which sees itself as its own text
    text_N = torch.arange(size_N, device=place_T.device) > 0
    opening_NLS = text_N[:, None, None].expand(-1, length, shared)
    opening_NS = torch.arange(shared, device=place_T.device).expand(size_N, -1)
    see_NLM = torch.cat([opening_NLS, own_NLL], 2)
    return additive_masks(lm, see_NLM, place_NL, torch.cat([opening_NS, place_NL], 1), dtype)
