"""Keys and values of a batch of prompts and of the part of the trie explored below each.

A prompt is computed once, whatever the number of beams. Every explored trie node adds one token to its
user's row, visible to its descendants only (a tree mask), so nothing is ever copied per beam or
reordered when beams change. Tokens that all prompts begin with are computed once per batch.

B users, P prompt positions, S tree slots, T new tokens of a call, R asked rows, D hidden width, M nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from bench.errors import ConfigError
from bench.types import IntArray
from llmrec.decode.base import shared_length

if TYPE_CHECKING:
    from llmrec.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

CHUNK = 512  # tree tokens per user and forward pass: bounds the mask and the activations
SUPPORTED = ("sdpa", "eager")


class Shape:
    """What a search asks of a trie again and again, by node.

    Attributes:
        parent_M, token_M, depth_M: of the edge into a node; -1, 0 and 0 at the root.
        first_leaf_M: smallest leaf at or below a node, which is the leaf with the smallest item id.
        shortest_M, longest_M: tokens of the shortest and longest answer at or below a node.
        branch_M: the first node at or below with a choice or an end (unary chains are skipped).
    """

    def __init__(self, trie: Trie) -> None:
        fan = trie.fan_out_M
        self.parent_M = np.concatenate([[-1], np.repeat(np.arange(trie.n_nodes), fan)])
        self.token_M = np.concatenate([[0], trie.token_E])
        self.depth_M = np.zeros(trie.n_nodes, np.int64)
        below = np.repeat(np.arange(trie.n_leaves), trie.path.lengths)
        length = np.repeat(trie.answer.lengths, trie.answer.lengths)
        inside = trie.path.values
        self.depth_M[inside] = np.arange(len(inside)) - trie.path.offsets[:-1][below]
        ends = np.flatnonzero(trie.leaf_M >= 0)
        leaf = trie.leaf_M[ends]
        self.depth_M[ends] = trie.answer.lengths[leaf]
        self.first_leaf_M = np.full(trie.n_nodes, trie.n_leaves, np.int64)
        self.shortest_M = np.full(trie.n_nodes, np.iinfo(np.int64).max)
        self.longest_M = np.zeros(trie.n_nodes, np.int64)
        for at, leaves, lengths in (
            (inside, below, length),
            (ends, leaf, trie.answer.lengths[leaf]),
        ):
            np.minimum.at(self.first_leaf_M, at, leaves)
            np.minimum.at(self.shortest_M, at, lengths)
            np.maximum.at(self.longest_M, at, lengths)
        self.branch_M = np.arange(trie.n_nodes)
        unary = np.flatnonzero(fan == 1)
        child = trie.child_E[trie.indptr_M[unary]]
        depth = self.depth_M[unary]
        for level in range(int(depth.max(initial=0)), -1, -1):
            at = depth == level
            self.branch_M[unary[at]] = self.branch_M[child[at]]


@lru_cache(maxsize=8)
def shape_of(trie: Trie) -> Shape:
    """The shape of a trie, computed once."""
    return Shape(trie)


class _Shelf(DynamicLayer):
    """Keys and values of one layer in a buffer with room to grow: an update writes, and copies nothing."""

    room = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new states behind the old ones; returns views of all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.used = 0
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        end = self.used + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self._grow(key_states.shape[0], max(end + self.room, end + end // 4))
        self.keys[:, :, self.used : end] = key_states
        self.values[:, :, self.used : end] = value_states
        self.used = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _grow(self, n_users: int, length: int) -> None:
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(n_users, old.shape[1], length, old.shape[3])
            new[:, :, : self.used] = old[:, :, : self.used]
            setattr(self, name, new)

    def widen(self, n_users: int) -> None:
        """Turn a batch of one into a batch of users."""
        self._grow(n_users, self.used)

    def get_seq_length(self) -> int:
        """Filled positions."""
        return self.used if self.is_initialized else 0


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

    def __init__(self, lm: Backbone, prompts: Sequence[Prompt], trie: Trie, room: int = 64) -> None:
        check_attention(lm)
        self.lm, self.trie, self.shape = lm, trie, shape_of(trie)
        self.n_users = len(prompts)
        self.length_B = np.array([len(prompt) for prompt in prompts])
        self.width = int(self.length_B.max())
        self.slots, self.tokens = 0, 0
        self.slot_BM = np.full((self.n_users, trie.n_nodes), -1, np.int32)
        self.parent_BS = np.zeros((self.n_users, 0), np.int32)
        self.depth_BS = np.zeros((self.n_users, 0), np.int32)
        layer = type("Shelf", (_Shelf,), {"room": room})
        self.cache = Cache(layer_class_to_replicate=layer)
        self.hidden_BSD = self._prefill(prompts)[:, None]  # slot s lies at s + 1, the root at 0

    @torch.no_grad()
    def _prefill(self, prompts: Sequence[Prompt]) -> Tensor:
        """Compute the prompts; returns the hidden state of each last token, [B, D]."""
        ids_BP = np.zeros((self.n_users, self.width), np.int64)
        slots_BP = np.zeros_like(ids_BP)
        for row, prompt in enumerate(prompts):
            ids_BP[row, : len(prompt)], slots_BP[row, : len(prompt)] = prompt.ids, prompt.slots
        shared = shared_length(prompts) if self.n_users > 1 else 0
        column = np.arange(self.width)
        if shared:
            head = column[:shared]
            self._forward(ids_BP[:1, head], slots_BP[:1, head], head[None], _causal(head, head))
            for layer in self.cache.layers:
                layer.widen(self.n_users)
        rest = column[shared:]
        position_BP = np.broadcast_to(rest, (self.n_users, len(rest)))
        allowed = _causal(rest, column)
        hidden_BPD = self._forward(ids_BP[:, rest], slots_BP[:, rest], position_BP, allowed)
        last_B = torch.as_tensor(self.length_B - 1 - shared, device=hidden_BPD.device)
        return hidden_BPD[torch.arange(self.n_users, device=last_B.device), last_B]

    @torch.no_grad()
    def hidden(self, user_R: IntArray, node_R: IntArray) -> Tensor:
        """Final hidden states after the prompt and the prefix of each node, [R, D].

        Whatever of the prefix was not computed before is computed now, in one pass unless it is long.
        """
        user_X, node_X = self._missing(user_R, node_R)
        first_X = np.searchsorted(user_X, user_X)
        rank_X = np.arange(len(user_X)) - first_X
        for start in range(0, int(rank_X.max(initial=-1)) + 1, CHUNK):
            now = (rank_X >= start) & (rank_X < start + CHUNK)
            self._extend(user_X[now], node_X[now], rank_X[now] - start)
        slot_R = np.where(node_R == 0, 0, self.slot_BM[user_R, node_R] + 1)
        device = self.hidden_BSD.device
        return self.hidden_BSD[
            torch.as_tensor(user_R, device=device), torch.as_tensor(slot_R, device=device)
        ]

    def _missing(self, user_R: IntArray, node_R: IntArray) -> tuple[IntArray, IntArray]:
        """Uncomputed nodes on the way to the asked ones, sorted by user, parents first."""
        m = self.trie.n_nodes
        key = np.asarray(user_R, np.int64) * m + node_R
        found: list[IntArray] = []
        while len(key):
            user, node = np.divmod(key, m)
            open_ = (node != 0) & (self.slot_BM[user, node] < 0)
            key, user, node = key[open_], user[open_], node[open_]
            found.append(key)
            key = np.unique(user * m + self.shape.parent_M[node])
        user, node = np.divmod(np.unique(np.concatenate(found)), m)
        return user, node

    def _extend(self, user_X: IntArray, node_X: IntArray, rank_X: IntArray) -> None:
        """Compute these nodes, whose parents are computed or among them."""
        n_new, before = int(rank_X.max()) + 1, self.slots
        slot_X, depth_X = before + rank_X, self.shape.depth_M[node_X]
        self.slot_BM[user_X, node_X] = slot_X
        parent_X = self.shape.parent_M[node_X]
        fresh = np.zeros((self.n_users, n_new), np.int32)
        self.parent_BS = np.concatenate([self.parent_BS, fresh - 1], 1)
        self.depth_BS = np.concatenate([self.depth_BS, fresh + 1], 1)
        self.parent_BS[user_X, slot_X] = np.where(parent_X == 0, -1, self.slot_BM[user_X, parent_X])
        self.depth_BS[user_X, slot_X] = depth_X
        ids_BT = fresh.astype(np.int64)
        ids_BT[user_X, rank_X] = self.shape.token_M[node_X]
        position_BT = self.length_B[:, None] + self.depth_BS[:, before:] - 1
        allowed = self._visible(user_X, rank_X, slot_X, n_new)
        hidden_BTD = self._forward(ids_BT, np.zeros_like(ids_BT), position_BT, allowed)
        self.hidden_BSD = torch.cat([self.hidden_BSD, hidden_BTD], 1)
        self.slots += n_new
        self.tokens += len(user_X)

    def _visible(
        self, user_X: IntArray, rank_X: IntArray, slot_X: IntArray, n_new: int
    ) -> IntArray:
        """Which prompt positions and tree slots each new token sees, bool [B, T, P + S]."""
        before = self.slots
        see = np.zeros((self.n_users, n_new, self.width + before + n_new), bool)
        see[:, :, : self.width] = (np.arange(self.width) < self.length_B[:, None])[:, None]
        new = np.arange(n_new)
        see[:, new, self.width + before + new] = True  # padding has to see something
        user, rank, slot = user_X, rank_X, slot_X
        while len(slot):
            see[user, rank, self.width + slot] = True
            slot = self.parent_BS[user, slot]
            more = slot >= 0
            user, rank, slot = user[more], rank[more], slot[more]
        return see

    def _forward(
        self, ids: IntArray, slots: IntArray, position: IntArray, allowed: IntArray
    ) -> Tensor:
        """Run the body over new tokens; ``allowed`` is bool [1 or B, T, all positions so far]."""
        device = self.lm.device
        embeds = self.lm.embed(
            torch.as_tensor(ids, device=device), torch.as_tensor(slots, device=device)
        )
        mask = self._mask(allowed, position, embeds)
        hidden, _ = self.lm.body(
            embeds_BLD=embeds,
            attention_mask=mask,
            position_ids=torch.as_tensor(np.array(position), device=device),
            past_key_values=self.cache,
            use_cache=True,
        )
        return hidden

    def _mask(self, allowed: IntArray, position: IntArray, embeds: Tensor) -> Any:
        """The additive mask, [B, 1, T, P + S]; one per kind of layer where a model mixes kinds."""
        config = self.lm.causal.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ())
        whole = _additive(allowed, embeds)
        window = getattr(config, "sliding_window", None)
        if not window or (kinds and "sliding_attention" not in kinds):
            return whole
        at = np.broadcast_to(np.arange(self.width), (self.n_users, self.width))
        at = np.concatenate([at, self.length_B[:, None] + self.depth_BS - 1], 1)
        at = at[: len(position), None, : allowed.shape[-1]]
        near = _additive(allowed & (position[:, :, None] - at < window), embeds)
        return {"full_attention": whole, "sliding_attention": near} if len(kinds) > 1 else near


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


def _causal(query: IntArray, key: IntArray) -> IntArray:
    """Query positions against key positions, bool [1, T, P]."""
    return (key[None, :] <= query[:, None])[None]


def _additive(allowed: IntArray, embeds: Tensor) -> Tensor:
    seen = torch.as_tensor(allowed, device=embeds.device)[:, None]
    return torch.zeros(seen.shape, dtype=embeds.dtype, device=embeds.device).masked_fill(
        ~seen, torch.finfo(embeds.dtype).min
    )
