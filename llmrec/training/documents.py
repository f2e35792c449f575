"""Training rows end to end in one row of tokens, with no padding between them: the layout for a GPU.

The opening that all prompts share stands in front once and every text sees it; a text sees itself besides,
and each of several answers behind one prompt sees that prompt and itself. Positions count within a text, so
every state is that of the text standing alone. Rows of tokens have few lengths, so that shapes repeat: a
fixed budget, or a half, a quarter or an eighth of it for what is left over.
B prompts, J answers each, T tokens, S tokens of the opening, R answer tokens, D hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.types import IntArray
from llmrec.lm.transfer import moved
from llmrec.losses.base import Answers
from llmrec.training.document_attention import WIDTH, Grid, attending, grid_masks

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

PROMPT = 0
SMALLEST = 8  # a length is a multiple of it


@dataclass(frozen=True, eq=False)
class Documents:
    """Texts end to end, and the answer tokens wanted of them; all int64.

    Attributes:
        ids_T, slots_T: token ids and slots; the end is filled with the pad token.
        place_T: position of each token in its text, opening included.
        part_T: 0 in a prompt, j + 1 in its answer j.
        grid: for attention, a line for the opening and one for each row.
        answers: the answer tokens whose loss is wanted; ``row_R`` is b * J + j.
        column_R: position in T of the state that predicts each of them.
        tokens: real tokens.
    """

    ids_T: Tensor
    slots_T: Tensor
    place_T: Tensor
    part_T: Tensor
    grid: Grid
    answers: Answers
    column_R: Tensor
    tokens: int

    def to(self, device: torch.device) -> Documents:
        """The same on another device."""
        names = ("ids_T", "slots_T", "place_T", "part_T", "column_R")
        grid = self.grid
        old = [getattr(self, name) for name in names]
        *columns, token_NL, used_NL, cell_T = moved(
            [*old, grid.token_NL, grid.used_NL, grid.cell_T], device
        )
        found: dict[str, Any] = dict(zip(names, columns, strict=True))
        grid = Grid(token_NL, used_NL, cell_T, grid.shared, grid.length)
        return replace(self, answers=self.answers.to(device), grid=grid, **found)


@dataclass(frozen=True)
class Room:
    """How long a row of tokens is.

    Attributes:
        budget: tokens of a full one.
        shared: tokens of the opening that all prompts share, which stands in each row of tokens once.
    """

    budget: int
    shared: int = 0

    def length(self, tokens: int) -> int:
        """Length of the row of tokens that so many real tokens are put in."""
        for share in (8, 4, 2, 1):
            length = -(-self.budget // share // SMALLEST) * SMALLEST
            if tokens <= length:
                return length
        return -(-tokens // length) * length

    def parts(self, size_B: IntArray, most: int) -> Iterator[IntArray]:
        """Rows dealt out to rows of tokens, each into the first that has room; longest first.

        Args:
            size_B: tokens of each row behind the opening.
            most: rows of a row of tokens at most.
        """
        bins: list[list[int]] = []
        left: list[int] = []
        for row in np.argsort(-size_B, kind="stable").tolist():
            size = int(size_B[row])
            free = (n for n, room in enumerate(left) if room >= size and len(bins[n]) < most)
            if (at := next(free, None)) is None:
                bins.append([])
                left.append(self.budget - self.shared)
                at = len(bins) - 1
            bins[at].append(row)
            left[at] -= size
        yield from (np.array(rows, np.int64) for rows in bins)


def fed_tokens(prompts: Sequence[Prompt], fed_BJ: IntArray, shared: int) -> IntArray:
    """Tokens of each row that go through the model behind the opening, [B].

    Args:
        prompts: one a row.
        fed_BJ: tokens of each of its answers that are fed.
        shared: tokens of the opening.
    """
    return np.array([len(prompt) for prompt in prompts], np.int64) - shared + fed_BJ.sum(1)


def end_to_end(
    prompts: Sequence[Prompt],
    leaf_BJ: IntArray,
    fed_BJ: IntArray,
    answers: Answers,
    trie: Trie,
    *,
    pad: int,
    room: Room,
) -> Documents:
    """Prompts with their answers as one row of tokens.

    Args:
        prompts: one a row.
        leaf_BJ: the answers of each.
        fed_BJ: how many tokens of each answer are fed: up to the one before the last that is wanted.
        answers: every token of these answers (``Answers.of``), in order; all of them are wanted here.
        trie: where their tokens are.
        pad: a token to fill up with.
        room: the length of the row of tokens.
    """
    shared = room.shared
    rest_B = np.array([len(prompt) for prompt in prompts], np.int64) - shared
    assert rest_B.min() > 0, f"{shared} shared tokens leave nothing of a prompt"
    size_B = rest_B + fed_BJ.sum(1)
    start_B = shared + np.cumsum(size_B) - size_B
    begin_BJ = (start_B + rest_B)[:, None] + np.cumsum(fed_BJ, 1) - fed_BJ
    tokens = int(shared + size_B.sum())
    length = room.length(tokens)
    ids_T, slots_T = np.full(length, pad, np.int64), np.zeros(length, np.int64)
    place_T, part_T = np.zeros(length, np.int64), np.full(length, PROMPT, np.int64)
    ids_T[:shared] = prompts[0].ids[:shared]
    place_T[:shared] = np.arange(shared)
    for b, prompt in enumerate(prompts):
        start, end = start_B[b], start_B[b] + rest_B[b]
        ids_T[start:end], slots_T[start:end] = prompt.ids[shared:], prompt.slots[shared:]
        place_T[start:end] = np.arange(shared, len(prompt))
        for j, (begin, fed) in enumerate(zip(begin_BJ[b], fed_BJ[b], strict=True)):
            ids_T[begin : begin + fed] = trie.answer[leaf_BJ[b, j]][:fed]
            place_T[begin : begin + fed] = len(prompt) + np.arange(fed)
            part_T[begin : begin + fed] = j + 1
    pair_R, place_R = answers.row_R.numpy(), answers.places()
    ahead_R = np.where(place_R == 0, (start_B + rest_B)[pair_R // leaf_BJ.shape[1]], 0)
    column_R = np.where(place_R == 0, ahead_R, begin_BJ.reshape(-1)[pair_R] + place_R) - 1
    return Documents(
        ids_T=torch.from_numpy(ids_T),
        slots_T=torch.from_numpy(slots_T),
        place_T=torch.from_numpy(place_T),
        part_T=torch.from_numpy(part_T),
        grid=_grid(size_B, shared, length),
        answers=answers,
        column_R=torch.from_numpy(column_R),
        tokens=tokens,
    )


def _grid(size_B: IntArray, shared: int, length: int) -> Grid:
    """The grid of texts that follow the opening in order.

    Args:
        size_B: tokens of each text.
        shared: tokens of the opening.
        length: of the row of tokens.
    """
    size_N = np.concatenate([[shared], size_B])  # a first line even without an opening: it is empty
    start_N = np.cumsum(size_N) - size_N
    at_L = np.arange(-(-int(size_N.max()) // WIDTH) * WIDTH)
    used_NL = at_L < size_N[:, None]
    token_NL = np.where(used_NL, start_N[:, None] + at_L, 0)
    return Grid(
        token_NL=torch.from_numpy(token_NL),
        used_NL=torch.from_numpy(used_NL.astype(np.int64)),
        cell_T=torch.from_numpy(np.flatnonzero(used_NL)),
        shared=shared,
        length=length,
    )


def document_states(lm: Backbone, rows: Documents) -> Tensor:
    """Final hidden states that predict ``rows.answers``, [R, D], in one pass; never any logits.

    Args:
        lm: the model.
        rows: texts end to end, on the model's device.

    Raises:
        ConfigError: the model's attention kernel ignores explicit masks.
    """
    embeds_1TD = lm.embed(rows.ids_T[None], rows.slots_T[None])
    masks = grid_masks(lm, rows.grid, rows.place_T, rows.part_T, embeds_1TD.dtype)
    with attending(lm, rows.grid):
        hidden_1TD, _ = lm.body(
            embeds_BLD=embeds_1TD,
            ids_BL=rows.ids_T[None],
            attention_mask=masks,
            position_ids=rows.place_T[None],
        )
    return hidden_1TD[0].index_select(0, rows.column_R)
