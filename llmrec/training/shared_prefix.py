"""Log-probabilities of several answers to one prompt, with the prompt computed once.

A row is the prompt followed by all its answers; a mask lets each answer see the prompt and itself, and
positions restart behind the prompt, so every state equals that of the answer standing alone behind its
prompt. The first tokens that all prompts share are computed once per batch. With ``together=False`` each
answer has a sequence of its own instead, which gives the same numbers up to rounding.

B prompts, J answers each, L tokens of a row behind the opening, S tokens of the opening, M = S + L,
R answer tokens, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from bench.types import IntArray
from llmrec.decode.tree import check_attention
from llmrec.lm.masks import additive_masks
from llmrec.losses.base import Answers, Loss
from llmrec.training.documents import Room, document_states, end_to_end
from llmrec.training.packing import Example, lay_out, states

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

PROMPT, PADDING = 0, -1


@dataclass(frozen=True, eq=False)
class Fork:
    """Prompts with their answers side by side, right-padded; all int64.

    Attributes:
        shared_S: the opening of all prompts; empty if it is not split off.
        ids_BL, slots_BL: prompt and answers behind the opening, without the answers' end tokens.
        place_BL: position of each token in the text it belongs to, opening included.
        part_BL: 0 in the prompt, j in answer j (from 1), -1 in the padding.
        answers: the labels, end tokens included; ``row_R`` is b * J + j of the answer (from 0).
        row_R, column_R: position in [B, L] of the state that predicts each of them.
    """

    shared_S: Tensor
    ids_BL: Tensor
    slots_BL: Tensor
    place_BL: Tensor
    part_BL: Tensor
    answers: Answers
    row_R: Tensor
    column_R: Tensor

    @property
    def tokens(self) -> int:
        """Real tokens that go through the model."""
        return len(self.shared_S) + int((self.part_BL != PADDING).sum())

    def to(self, device: torch.device) -> Fork:
        """The same on another device."""
        return Fork(*(getattr(self, f.name).to(device) for f in fields(self)))


def fork(
    prompts: Sequence[Prompt], leaf_BJ: IntArray, trie: Trie, *, pad: int, shared: int = 0
) -> Fork:
    """Prompts with their answers as one padded batch.

    Args:
        prompts: one a row.
        leaf_BJ: the answers of each.
        trie: where their tokens are.
        pad: a token to fill up with.
        shared: how many leading tokens all these prompts have in common; 0 keeps rows whole.
    """
    size_J = leaf_BJ.shape[1]
    answers = Answers.of(trie, leaf_BJ.reshape(-1))
    pair_R, place_R = answers.row_R.numpy(), answers.places()
    length_P = np.asarray(trie.answer.lengths)[leaf_BJ.reshape(-1)].astype(np.int64)
    prompt_B = np.array([len(prompt) for prompt in prompts], np.int64) - shared
    assert prompt_B.min() > 0, f"{shared} shared tokens leave nothing of a prompt"
    # the end token is predicted but never fed, as nothing follows it
    fed_BJ = (length_P - 1).reshape(leaf_BJ.shape)
    before_BJ = prompt_B[:, None] + np.cumsum(fed_BJ, 1) - fed_BJ  # where each answer begins
    row_R, begin_R = pair_R // size_J, before_BJ.reshape(-1)[pair_R]
    column_R = np.where(place_R == 0, prompt_B[row_R] - 1, begin_R + place_R - 1)
    fed_R = np.flatnonzero(place_R < length_P[pair_R] - 1)
    shape = (len(prompts), int((prompt_B + fed_BJ.sum(1)).max()))
    ids_BL, slots_BL = np.full(shape, pad, np.int64), np.zeros(shape, np.int64)
    place_BL, part_BL = np.zeros(shape, np.int64), np.full(shape, PADDING, np.int64)
    for b, prompt in enumerate(prompts):
        ids_BL[b, : prompt_B[b]] = prompt.ids[shared:]
        slots_BL[b, : prompt_B[b]] = prompt.slots[shared:]
        place_BL[b, : prompt_B[b]] = np.arange(shared, len(prompt))
        part_BL[b, : prompt_B[b]] = PROMPT
    at = row_R[fed_R], begin_R[fed_R] + place_R[fed_R]
    ids_BL[at] = answers.token_R.numpy()[fed_R]
    place_BL[at] = shared + prompt_B[row_R[fed_R]] + place_R[fed_R]
    part_BL[at] = pair_R[fed_R] % size_J + 1
    opening = prompts[0].ids[:shared].astype(np.int64)
    return Fork(
        shared_S=torch.from_numpy(opening),
        ids_BL=torch.from_numpy(ids_BL),
        slots_BL=torch.from_numpy(slots_BL),
        place_BL=torch.from_numpy(place_BL),
        part_BL=torch.from_numpy(part_BL),
        answers=answers,
        row_R=torch.from_numpy(row_R),
        column_R=torch.from_numpy(column_R),
    )


def fork_states(lm: Backbone, rows: Fork) -> Tensor:
    """Final hidden states that predict ``rows.answers``, [R, D]; never any logits.

    Args:
        lm: the model.
        rows: prompts with their answers, on the model's device.

    Raises:
        ConfigError: the model's attention kernel ignores explicit masks.
    """
    check_attention(lm)
    embeds_BLD = lm.embed(rows.ids_BL, rows.slots_BL)
    shared, cache = len(rows.shared_S), None
    if shared:
        opening_1SD = lm.embed(rows.shared_S[None], torch.zeros_like(rows.shared_S)[None])
        ones = torch.ones_like(rows.shared_S)[None]
        # a cache of the model's own kind drops what a sliding layer no longer sees, and our mask covers it
        cache = Cache(layer_class_to_replicate=DynamicLayer)
        lm.body(
            embeds_BLD=opening_1SD,
            ids_BL=rows.shared_S[None],
            attention_mask=ones,
            past_key_values=cache,
            use_cache=True,
        )
        cache.batch_repeat_interleave(len(embeds_BLD))
    hidden_BLD, _ = lm.body(
        embeds_BLD=embeds_BLD,
        ids_BL=rows.ids_BL,
        attention_mask=_mask(lm, rows, embeds_BLD.dtype),
        position_ids=rows.place_BL,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    return hidden_BLD[rows.row_R, rows.column_R]


def _mask(lm: Backbone, rows: Fork, dtype: torch.dtype) -> Any:
    """The additive mask [B, 1, L, M]; one per kind of layer where a model mixes kinds."""
    (size_B, length), shared = rows.part_BL.shape, len(rows.shared_S)
    device = rows.part_BL.device
    part_BM = torch.cat([rows.part_BL.new_full((size_B, shared), PROMPT), rows.part_BL], 1)
    opening_BS = torch.arange(shared, device=device).expand(size_B, -1)
    place_BM = torch.cat([opening_BS, rows.place_BL], 1)
    causal_LM = torch.ones(length, shared + length, dtype=torch.bool, device=device).tril(shared)
    same_BLM = part_BM[:, None] == rows.part_BL[:, :, None]
    see_BLM = causal_LM & ((part_BM == PROMPT)[:, None] | same_BLM)
    return additive_masks(lm, see_BLM, rows.place_BL, place_BM, dtype)


@dataclass(frozen=True, eq=False)
class LogProbs:
    """Log-probabilities of answers, each summed over its tokens; with gradients unless switched off.

    Attributes:
        loss: gives the negative log-probability of each token (``per_row``).
        trie: the answers.
        shared: leading tokens that all prompts have in common.
        together: one row per prompt (True) or one per answer (False); equal but for rounding.
        packed: tokens of a micro-batch whose rows stand end to end (``documents``), answers together;
            0 for padded rows.
    """

    loss: Loss
    trie: Trie
    shared: int = 0
    together: bool = True
    packed: int = 0

    @property
    def room(self) -> Room | None:
        """How long rows of tokens are, if rows stand end to end."""
        return Room(self.packed, self.shared) if self.packed else None

    def __call__(
        self, lm: Backbone, prompts: Sequence[Prompt], leaf_BJ: IntArray
    ) -> tuple[Tensor, int]:
        """Log-probabilities [B, J] in fp32 and the tokens that went through the model."""
        padded = self._together if self.together else self._apart
        find = self._end_to_end if self.packed else padded
        hidden_RD, answers, tokens = find(lm, prompts, leaf_BJ)
        nll_R = self.loss.per_row(hidden_RD, lm.head, answers)
        summed = nll_R.new_zeros(leaf_BJ.size).index_add(0, answers.row_R, nll_R)
        return -summed.view(leaf_BJ.shape), tokens

    def _together(
        self, lm: Backbone, prompts: Sequence[Prompt], leaf_BJ: IntArray
    ) -> tuple[Tensor, Answers, int]:
        rows = fork(prompts, leaf_BJ, self.trie, pad=lm.pad_id, shared=self.shared)
        tokens, rows = rows.tokens, rows.to(lm.device)
        return fork_states(lm, rows), rows.answers, tokens

    def _end_to_end(
        self, lm: Backbone, prompts: Sequence[Prompt], leaf_BJ: IntArray
    ) -> tuple[Tensor, Answers, int]:
        answers = Answers.of(self.trie, leaf_BJ.reshape(-1))
        fed_BJ = np.asarray(self.trie.answer.lengths)[leaf_BJ].astype(np.int64) - 1
        room = self.room
        assert room is not None, "rows do not stand end to end"
        rows = end_to_end(prompts, leaf_BJ, fed_BJ, answers, self.trie, pad=lm.pad_id, room=room)
        rows = rows.to(lm.device)
        return document_states(lm, rows), rows.answers, rows.tokens

    def _apart(
        self, lm: Backbone, prompts: Sequence[Prompt], leaf_BJ: IntArray
    ) -> tuple[Tensor, Answers, int]:
        examples = [
            Example(prompt, int(leaf))
            for prompt, leaves in zip(prompts, leaf_BJ, strict=True)
            for leaf in leaves
        ]
        layout = lay_out(examples, self.trie, self.loss, pad=lm.pad_id, shared=self.shared)
        tokens, layout = layout.tokens, layout.to(lm.device)
        return states(lm, layout), layout.answers, tokens
