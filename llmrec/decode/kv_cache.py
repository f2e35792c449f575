"""The key-value cache under the tree: buffers that are written in place, for all users or for some.

B users, H heads, L positions, D width of a head; keys and values are [B, H, L, D].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from bench.types import IntArray


class TreeCache(DynamicLayer):
    """Keys and values of one layer in a buffer with room to grow: an update writes, and copies nothing.

    Attributes:
        room: positions to make room for when the buffer grows.
        rows: users that the next update is about; None for all. Reading only some costs a copy of theirs.
    """

    keys: Tensor  # the base class has None until the first update
    values: Tensor
    room = 0
    used = 0
    rows: Tensor | None = None

    @classmethod
    def of(cls, parts: Sequence[tuple[Tensor, Tensor]], length: int, room: int) -> TreeCache:
        """A cache of given keys and values, stacked along the users and padded to ``length`` with zeros.

        Args:
            parts: keys and values [B_i, H, L_i, D] of one group of users each.
            length: filled positions of the new cache, at least every L_i.
            room: further positions to allocate.
        """
        cache = cls()
        cache.lazy_initialization(*parts[0])
        n_users = sum(keys.shape[0] for keys, _ in parts)
        cache.keys, cache.values = (_room(like, n_users, length + room) for like in parts[0])
        start = 0
        for keys, values in parts:
            end = start + keys.shape[0]
            cache.keys[start:end, :, : keys.shape[2]] = keys
            cache.values[start:end, :, : values.shape[2]] = values
            start = end
        cache.used, cache.room = length, room
        return cache

    @property
    def filled(self) -> tuple[Tensor, Tensor]:
        """Keys and values written so far."""
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the new states behind the old ones; returns all keys and values, the new ones included.

        Args:
            key_states: new keys, [B, H, T, D].
            value_states: new values, [B, H, T, D].
            *args: passed by transformers and not used.
            **kwargs: likewise.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        end = self.used + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            for name, old in (("keys", self.keys), ("values", self.values)):
                # a quarter more than is needed, so that copying costs a constant per position
                new = _room(old, old.shape[0], end + max(self.room, end // 4))
                new[:, :, : self.used] = old[:, :, : self.used]
                setattr(self, name, new)
        rows = slice(None) if self.rows is None else self.rows
        self.keys[rows, :, self.used : end] = key_states
        self.values[rows, :, self.used : end] = value_states
        self.used = end
        return self.keys[rows, :, :end], self.values[rows, :, :end]

    def get_seq_length(self) -> int:
        """Filled positions."""
        return self.used


def tree_layers(cache: Cache) -> list[TreeCache]:
    """The layers of a cache that was made with ``TreeCache`` as its layer class."""
    layers = [layer for layer in cache.layers if isinstance(layer, TreeCache)]
    assert len(layers) == len(cache.layers), "the model put layers of its own into the cache"
    return layers


def _room(like: Tensor, n_users: int, length: int) -> Tensor:
    # zeros: a masked position may hold anything but a NaN
    return like.new_zeros(n_users, like.shape[1], length, like.shape[3])


def similar(length_B: IntArray, pass_tokens: float, padding: float) -> list[IntArray]:
    """Neighbouring users in groups that are cheaper padded than apart.

    Args:
        length_B: tokens of each user; the closer neighbours are in length, the better.
        pass_tokens: tokens that cost as much as a forward pass.
        padding: share of padding that costs less than one.
    """
    groups: list[list[int]] = [[]]
    for user in range(len(length_B)):
        group = [*groups[-1], user]
        widest, real = length_B[group].max(), length_B[group].sum()
        if len(group) > 1 and widest * len(group) > (1 + padding) * real + pass_tokens:
            groups.append([user])
        else:
            groups[-1] = group
    return [np.array(group) for group in groups]
