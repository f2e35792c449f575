"""Keys and values of a batch of prompts and of the part of the trie explored below each.

A prompt is computed once, whatever the number of beams. Every explored trie node adds one token to its
user's row, visible to its descendants only (a tree mask), so nothing is ever copied per beam or
reordered when beams change. Tokens that all prompts begin with are computed once per batch.

B users, P prompt positions, S tree slots, T new tokens of a call, X new tree tokens, R asked
rows, D hidden width, M nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from bench.errors import ConfigError
from bench.types import BoolArray, IntArray
from llmrec.decode.base import shared_length
from llmrec.decode.kv_cache import TreeCache, similar, tree_layers
from llmrec.decode.trie_index import index_of

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

CHUNK = 512  # tree tokens per user and forward pass: bounds the mask and the activations
FEW = (
    0.75  # share of active users below which copying their keys is cheaper than padding the others
)
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

    def __init__(self, lm: Backbone, prompts: Sequence[Prompt], trie: Trie, room: int = 64) -> None:
        check_attention(lm)
        self.lm, self.trie, self.index = lm, trie, index_of(trie)
        self.n_users = len(prompts)
        self.length_B = np.array([len(prompt) for prompt in prompts])
        self.width = int(self.length_B.max())
        self.slots, self.tokens = 0, 0
        self.slot_BM = np.full((self.n_users, trie.n_nodes), -1, np.int32)
        self.parent_BS: IntArray = np.zeros((self.n_users, 0), np.int32)
        self.depth_BS: IntArray = np.zeros((self.n_users, 0), np.int32)
        self.hidden_BSD = self._prefill(prompts, room)[:, None]  # slot s at s + 1, the root at 0

    @torch.no_grad()
    def _prefill(self, prompts: Sequence[Prompt], room: int) -> Tensor:
        """Compute the prompts; returns the hidden state of each last token, [B, D]."""
        ids_BP = np.zeros((self.n_users, self.width), np.int64)
        slots_BP = np.zeros_like(ids_BP)
        for row, prompt in enumerate(prompts):
            ids_BP[row, : len(prompt)], slots_BP[row, : len(prompt)] = prompt.ids, prompt.slots
        shared = shared_length(prompts) if self.n_users > 1 else 0
        head = Cache(layer_class_to_replicate=TreeCache)
        if shared:
            self._prompt_part(ids_BP[:1], slots_BP[:1], np.arange(shared), head)
        parts, last_BD = [], []
        # one forward pass for users of similar length, which bounds the padding
        for users in similar(self.length_B - shared):
            cache = Cache(layer_class_to_replicate=TreeCache)
            if shared:
                copies = [[layer.filled] * len(users) for layer in tree_layers(head)]
                cache = Cache([TreeCache.of(copy, shared, 0) for copy in copies])
            column = np.arange(shared, int(self.length_B[users].max()))
            hidden_BPD = self._prompt_part(ids_BP[users], slots_BP[users], column, cache)
            last = torch.as_tensor(self.length_B[users] - 1 - shared, device=hidden_BPD.device)
            last_BD.append(hidden_BPD[torch.arange(len(users), device=last.device), last])
            parts.append(cache)
        layers = zip(*map(tree_layers, parts), strict=True)
        self.cache = Cache(
            [TreeCache.of([part.filled for part in layer], self.width, room) for layer in layers]
        )
        return torch.cat(last_BD)

    def _prompt_part(
        self, ids_BP: IntArray, slots_BP: IntArray, column: IntArray, cache: Cache
    ) -> Tensor:
        """Run the body over some columns of the prompts, behind what the cache holds."""
        key = np.arange(int(column[-1]) + 1)
        allowed = (key <= column[:, None])[None]
        position = np.broadcast_to(column, (len(ids_BP), len(column)))
        ids, slots = ids_BP[:, column], slots_BP[:, column]
        return self._forward((ids, slots), position, allowed, key[None], cache)

    @torch.no_grad()
    def hidden(self, user_R: IntArray, node_R: IntArray) -> Tensor:
        """Final hidden states after the prompt and the prefix of each node, [R, D].

        Tokens of the prefixes that were not computed before are computed now, in one forward pass unless
        there are many.

        Args:
            user_R: users, by their number in the batch.
            node_R: trie node that the prefix ends at; 0 for the prompt alone.
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
            # parents have smaller numbers than their children, so sorting puts them first
            key = np.unique(user * m + self.index.parent_M[node])
        user, node = np.divmod(np.unique(np.concatenate(found)), m)
        return user, node

    def _extend(self, user_X: IntArray, node_X: IntArray, rank_X: IntArray) -> None:
        """Compute these nodes, whose parents are computed or among them."""
        n_new, before = int(rank_X.max()) + 1, self.slots
        slot_X, parent_X = before + rank_X, self.index.parent_M[node_X]
        self.slot_BM[user_X, node_X] = slot_X
        fresh = np.zeros((self.n_users, n_new), np.int32)
        self.parent_BS = np.concatenate([self.parent_BS, fresh - 1], 1)
        self.depth_BS = np.concatenate([self.depth_BS, fresh + 1], 1)
        self.parent_BS[user_X, slot_X] = np.where(parent_X == 0, -1, self.slot_BM[user_X, parent_X])
        self.depth_BS[user_X, slot_X] = self.index.depth_M[node_X]
        ids_BT = fresh.astype(np.int64)
        ids_BT[user_X, rank_X] = self.index.token_M[node_X]
        self.slots += n_new
        self.tokens += len(user_X)
        see = self._visible(user_X, rank_X, slot_X, n_new)
        at = np.broadcast_to(np.arange(self.width), (self.n_users, self.width))
        at = np.concatenate([at, self.length_B[:, None] + self.depth_BS - 1], 1)
        active = np.unique(user_X)
        if len(active) > FEW * self.n_users:
            active = np.arange(self.n_users)
        rows = torch.as_tensor(active, device=self.hidden_BSD.device)
        for layer in tree_layers(self.cache):
            layer.rows = None if len(active) == self.n_users else rows
        ids, position = ids_BT[active], at[active, self.width + before :]
        tokens = ids, np.zeros_like(ids)
        hidden = self._forward(tokens, position, see[active], at[active], self.cache)
        hidden_BTD = hidden.new_zeros(self.n_users, *hidden.shape[1:])
        hidden_BTD[rows] = hidden
        self.hidden_BSD = torch.cat([self.hidden_BSD, hidden_BTD], 1)

    def _visible(
        self, user_X: IntArray, rank_X: IntArray, slot_X: IntArray, n_new: int
    ) -> BoolArray:
        """Which prompt positions and tree slots each new token sees, bool [B, T, P + S]."""
        see = np.zeros((self.n_users, n_new, self.width + self.slots), bool)
        see[:, :, : self.width] = (np.arange(self.width) < self.length_B[:, None])[:, None]
        new = np.arange(n_new)
        see[:, new, see.shape[2] - n_new + new] = True  # padding has to see something
        user, rank, slot = user_X, rank_X, slot_X
        while len(slot):
            see[user, rank, self.width + slot] = True
            slot = self.parent_BS[user, slot]
            more = slot >= 0
            user, rank, slot = user[more], rank[more], slot[more]
        return see

    def _forward(
        self,
        tokens: tuple[IntArray, IntArray],
        position: IntArray,
        allowed: BoolArray,
        at: IntArray,
        cache: Cache,
    ) -> Tensor:
        """Run the body over new tokens.

        Args:
            tokens: ids and slots, [B, T] each.
            position: of the new tokens, [B, T].
            allowed: bool [1 or B, T, positions so far, the new ones included].
            at: position of everything so far, [1 or B, positions so far].
            cache: keys and values so far.
        """
        ids, slots, place = (torch.tensor(x, device=self.lm.device) for x in (*tokens, position))
        embeds = self.lm.embed(ids, slots)
        hidden, _ = self.lm.body(
            embeds_BLD=embeds,
            ids_BL=ids,
            attention_mask=self._mask(allowed, position, at, embeds),
            position_ids=place,
            past_key_values=cache,
            use_cache=True,
        )
        return hidden

    def _mask(self, allowed: BoolArray, position: IntArray, at: IntArray, embeds: Tensor) -> Any:
        """The additive mask, [B, 1, T, P + S]; one per kind of layer where a model mixes kinds."""
        config = self.lm.causal.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ())
        whole = _additive(allowed, embeds)
        window = getattr(config, "sliding_window", None)
        if not window or (kinds and "sliding_attention" not in kinds):
            return whole
        near = _additive(allowed & (position[:, :, None] - at[:, None] < window), embeds)
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


def _additive(allowed: BoolArray, embeds: Tensor) -> Tensor:
    seen = torch.as_tensor(allowed, device=embeds.device)[:, None]
    return torch.zeros(seen.shape, dtype=embeds.dtype, device=embeds.device).masked_fill(
        ~seen, torch.finfo(embeds.dtype).min
    )
