"""Keys and values of a batch of prompts and of the part of the trie explored below each.

A prompt is computed once, whatever the number of beams. A prefix that is extended adds the tokens of its
segment to its user's row, visible to what continues it only (a tree mask), so nothing is ever copied per
beam or reordered when beams change. Tokens that all prompts begin with are computed once per batch.

B users, P prompt positions, S tree slots (slot 0 is the end of the prompt), T new tokens of a call,
W prefixes of a user, J places of an answer, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from bench.errors import ConfigError
from bench.types import IntArray
from llmrec.decode.base import shared_length
from llmrec.decode.costs import Costs
from llmrec.decode.device_trie import DeviceTrie
from llmrec.decode.kv_cache import TreeCache, similar, tree_layers
from llmrec.lm.masks import additive_masks

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt

CHUNK = 512  # tree tokens per user and forward pass: bounds the mask and the activations
SUPPORTED = ("sdpa", "eager")


class Tree:
    """The prompts of a batch of users and what was explored below them.

    Args:
        lm: the model, in evaluation mode.
        prompts: one per user.
        trie: its nodes name the explored prefixes.
        room: tree tokens per user to make room for; more are possible.

    Raises:
        ConfigError: the model's attention does not take an explicit mask.
    """

    def __init__(
        self, lm: Backbone, prompts: Sequence[Prompt], trie: DeviceTrie, room: int = 64
    ) -> None:
        check_attention(lm)
        self.lm, self.trie, self.costs = lm, trie, Costs.of(lm)
        self.n_users, self.tokens = len(prompts), 0
        length_B = np.array([len(prompt) for prompt in prompts])
        self.width = int(length_B.max())
        self.length_B = self._put(length_B)
        self.at_BS = torch.arange(self.width, device=lm.device).expand(self.n_users, -1)
        self.prompt_B1P = (self.at_BS < self.length_B[:, None])[:, None]
        # the slots on the way to each slot, by place in the answer; 0 where there is none
        self.path_BSJ = self.length_B.new_zeros(self.n_users, 1, trie.places)
        self.last_B1D = self._prefill(prompts, length_B, room)[:, None]

    def _put(self, values: IntArray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.int64, device=self.lm.device)

    @torch.no_grad()
    def _prefill(self, prompts: Sequence[Prompt], length_B: IntArray, room: int) -> Tensor:
        """Compute the prompts; returns the hidden state of each last token, [B, D]."""
        ids_BP, slots_BP = padded(prompts)
        shared = shared_length(prompts) if self.n_users > 1 else 0
        if shared * (self.n_users - 1) < self.costs.opening_tokens:
            shared = 0
        head = Cache(layer_class_to_replicate=TreeCache)
        if shared:
            self._prompt_part(ids_BP[:1], slots_BP[:1], (0, shared), head)
        parts, last_BD = [], []
        # one forward pass for users of similar length, which bounds the padding
        costs = self.costs
        for users in similar(length_B - shared, costs.pass_tokens, costs.padding):
            cache = Cache(layer_class_to_replicate=TreeCache)
            if shared:
                copies = [[layer.filled] * len(users) for layer in tree_layers(head)]
                cache = Cache([TreeCache.of(copy, shared, 0) for copy in copies])
            columns = (shared, int(length_B[users].max()))
            hidden_BPD = self._prompt_part(ids_BP[users], slots_BP[users], columns, cache)
            last = self._put(length_B[users] - 1 - shared)
            last_BD.append(hidden_BPD[torch.arange(len(users), device=last.device), last])
            parts.append(cache)
        layers = zip(*map(tree_layers, parts), strict=True)
        self.cache = Cache(
            [TreeCache.of([part.filled for part in layer], self.width, room) for layer in layers]
        )
        return torch.cat(last_BD)

    def _prompt_part(
        self, ids_BP: IntArray, slots_BP: IntArray, columns: tuple[int, int], cache: Cache
    ) -> Tensor:
        """Run the body over some columns of the prompts, behind what the cache holds."""
        key = torch.arange(columns[1], device=self.lm.device)
        position = key[slice(*columns)]
        seen = (key <= position[:, None])[None]
        ids, slots = (self._put(x[:, slice(*columns)]) for x in (ids_BP, slots_BP))
        position = position.expand(len(ids_BP), -1)
        return self._forward((ids, slots), position, seen, key[None], cache)

    @torch.no_grad()
    def extend(self, node_BW: Tensor, slot_BW: Tensor, tokens_B: IntArray) -> tuple[Tensor, Tensor]:
        """Compute the segments of some prefixes; no prefix may be extended twice.

        Args:
            node_BW: the prefixes, ``trie.none`` for none.
            slot_BW: slot of the last token above each segment, 0 for the prompt alone.
            tokens_B: new tokens of each user.

        Returns:
            Hidden states after each prefix [B, W, D], and the slot of its last token [B, W]; of those that
            are not asked, the prompt's hidden state and the slot that was given.
        """
        length_BW = self.trie.segment_M[node_BW]
        end_BW = length_BW.cumsum(1)
        hidden_BSD, n_new = self.last_B1D, int(tokens_B.max(initial=0))
        if n_new:
            before = self.path_BSJ.shape[1]
            ids_BT, position_BT = self._segments(node_BW, slot_BW, end_BW, n_new)
            for low in range(0, n_new, CHUNK):
                now = slice(low, min(low + CHUNK, n_new))
                active = np.flatnonzero(tokens_B > low)
                new_BTD = self._grow(ids_BT[:, now], position_BT[:, now], before + low, active)
                hidden_BSD = torch.cat([hidden_BSD, new_BTD], 1)
            slot_BW = torch.where(length_BW > 0, before - 1 + end_BW, slot_BW)
            self.tokens += int(tokens_B.sum())
        at_BW = torch.where(length_BW > 0, end_BW, 0)
        rows = torch.arange(self.n_users, device=at_BW.device)[:, None]
        return hidden_BSD[rows, at_BW], slot_BW

    def _segments(
        self, node_BW: Tensor, slot_BW: Tensor, end_BW: Tensor, n_new: int
    ) -> tuple[Tensor, Tensor]:
        """Ids and positions of the new tokens, [B, T] each; notes their paths."""
        trie, before = self.trie, self.path_BSJ.shape[1]
        place_BT = torch.arange(n_new, device=end_BW.device).expand(self.n_users, n_new)
        beam_BT = torch.searchsorted(end_BW, place_BT.contiguous(), right=True)
        padding_BT = place_BT >= end_BW[:, -1:]
        beam_BT = beam_BT.clamp(max=end_BW.shape[1] - 1)
        node_BT = node_BW.gather(1, beam_BT)
        first_BT = end_BW.gather(1, beam_BT) - trie.segment_M[node_BT]
        within_BT = (place_BT - first_BT).masked_fill(padding_BT, 0)
        ids_BT = trie.answer_A[trie.text_M[node_BT] + within_BT]
        depth_BT = trie.depth_M[node_BT] - trie.segment_M[node_BT]  # of the segment's first token
        # padding may stand at a node deeper than any that is asked, and a model may know no such position
        depth_BT = depth_BT.masked_fill(padding_BT, 0)
        above_BT1 = slot_BW.gather(1, beam_BT)[..., None].expand(-1, -1, trie.places)
        path_BTJ = self.path_BSJ.gather(1, above_BT1)
        step_J = torch.arange(trie.places, device=ids_BT.device) - depth_BT[..., None]
        own_BTJ = (step_J >= 0) & (step_J <= within_BT[..., None])
        path_BTJ = torch.where(own_BTJ, before + first_BT[..., None] + step_J, path_BTJ)
        # padding sees itself alone: a row that sees nothing would be NaN
        alone_BT1 = (before + place_BT)[..., None]
        path_BTJ = torch.where(padding_BT[..., None], alone_BT1, path_BTJ)
        self.path_BSJ = torch.cat([self.path_BSJ, path_BTJ], 1)
        position_BT = self.length_B[:, None] + depth_BT + within_BT
        self.at_BS = torch.cat([self.at_BS, position_BT], 1)
        return ids_BT, position_BT

    def _grow(self, ids_BT: Tensor, position_BT: Tensor, first: int, active: IntArray) -> Tensor:
        """Hidden states of new tokens, which get the slots from ``first`` on, [B, T, D]."""
        end = first + ids_BT.shape[1]
        seen_BTS = torch.zeros(*ids_BT.shape, end, dtype=torch.bool, device=ids_BT.device)
        seen_BTS.scatter_(2, self.path_BSJ[:, first:end], True)
        prompt_BTP = self.prompt_B1P.expand(-1, ids_BT.shape[1], -1)
        seen = torch.cat([prompt_BTP, seen_BTS[:, :, 1:]], 2)
        at = self.at_BS[:, : seen.shape[2]]
        few = len(active) <= self.costs.few * self.n_users
        rows = self._put(active) if few else None
        for layer in tree_layers(self.cache):
            layer.rows = rows
        if rows is None:
            tokens = ids_BT, torch.zeros_like(ids_BT)
            return self._forward(tokens, position_BT, seen, at, self.cache)
        tokens = ids_BT[rows], torch.zeros_like(ids_BT[rows])
        hidden = self._forward(tokens, position_BT[rows], seen[rows], at[rows], self.cache)
        return hidden.new_zeros(self.n_users, *hidden.shape[1:]).index_copy(0, rows, hidden)

    def _forward(
        self,
        tokens: tuple[Tensor, Tensor],
        position: Tensor,
        seen: Tensor,
        at: Tensor,
        cache: Cache,
    ) -> Tensor:
        """Run the body over new tokens.

        Args:
            tokens: ids and slots of the new tokens, [B, T] each.
            position: of the new tokens, [B, T].
            seen: bool [1 or B, T, positions so far, the new ones included].
            at: position of everything so far, [1 or B, positions so far].
            cache: keys and values so far.
        """
        ids, slots = tokens
        embeds = self.lm.embed(ids, slots)
        hidden, _ = self.lm.body(
            embeds_BLD=embeds,
            ids_BL=ids,
            attention_mask=additive_masks(self.lm, seen, position, at, embeds.dtype),
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        )
        return hidden


def padded(prompts: Sequence[Prompt]) -> tuple[IntArray, IntArray]:
    """Ids and slots of several prompts, int64 [B, P] each, 0 behind their ends."""
    ids_BP = np.zeros((len(prompts), max(map(len, prompts))), np.int64)
    slots_BP = np.zeros_like(ids_BP)
    for row, prompt in enumerate(prompts):
        ids_BP[row, : len(prompt)], slots_BP[row, : len(prompt)] = prompt.ids, prompt.slots
    return ids_BP, slots_BP


def check_attention(lm: Backbone) -> None:
    """Refuse attention kernels that ignore explicit masks.

    Raises:
        ConfigError: names the kernel and the ones that work.
    """
    kernel = lm.causal.config.get_text_config()._attn_implementation
    if kernel not in SUPPORTED:
        raise ConfigError(
            f"the model runs {kernel!r} attention, which takes no tree mask; load it with "
            f"attn_implementation one of {', '.join(SUPPORTED)}"
        )
