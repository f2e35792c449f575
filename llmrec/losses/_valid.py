"""Valid tokens of a batch of rows, and how to share them between rows.

Rows with one valid token never appear here. The others are cut into blocks; a block is one dense
matrix product of its rows with the union of their valid tokens, under a mask. R rows, G distinct trie
nodes, U union of valid tokens.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.errors import ConfigError
from llmrec.trie import Trie

# Costs in multiply-adds a unit of hidden width: a gathered head row is moved and read twice; a block of
# its own costs a dozen launches. Flat around these values on CPU: half the time of one union for 512 rows.
GATHER_COST = 12
BLOCK_COST = {"cpu": 4_000, "cuda": 1_000_000}
MAX_BLOCKS = 32


class TrieOn(NamedTuple):
    """A trie's arrays on a device, int64."""

    token_E: Tensor
    indptr_M: Tensor
    fan_out_M: Tensor


@dataclass(frozen=True, eq=False)
class Block:
    """Rows that share one matrix product.

    Attributes:
        row_R: which of the rows given, ascending.
        token_U: union of their valid tokens, ascending.
        invalid_GU: True where a token may not follow a node; None where all rows share one node.
        group_R: row -> node, as an index into G; None likewise.
        label_R: position of each label in ``token_U``.
        weight_GU: weight of each token after each node (G is 1 where all rows share one), 0 where it may
            not follow; None unless asked for.
    """

    row_R: Tensor
    token_U: Tensor
    invalid_GU: Tensor | None
    group_R: Tensor | None
    label_R: Tensor
    weight_GU: Tensor | None = None

    @property
    def invalid_RU(self) -> Tensor | None:
        """True where a token may not follow a row's node; None where every token of the union may."""
        if self.invalid_GU is None or self.group_R is None:
            return None
        return self.invalid_GU[self.group_R]

    @property
    def weight_RU(self) -> Tensor:
        """Weight of each token in each row; one line where all rows share a node."""
        assert self.weight_GU is not None, "this block was planned without weights"
        return self.weight_GU if self.group_R is None else self.weight_GU[self.group_R]


_loaded: weakref.WeakKeyDictionary[Trie, dict[str, TrieOn]] = weakref.WeakKeyDictionary()


def trie_on(trie: Trie, device: torch.device) -> TrieOn:
    """The arrays of a trie on a device, copied on the first call and kept.

    Args:
        trie: the catalogue.
        device: where they are needed.
    """
    copies = _loaded.setdefault(trie, {})
    if str(device) not in copies:
        arrays = (trie.token_E, trie.indptr_M, trie.fan_out_M)
        copies[str(device)] = TrieOn(*(torch.from_numpy(a).to(device, torch.int64) for a in arrays))
    return copies[str(device)]


def fan_out(trie: Trie, node_R: Tensor) -> Tensor:
    """Number of valid tokens of each row, int64 [R].

    Args:
        trie: the catalogue.
        node_R: trie node of each row.
    """
    return trie_on(trie, node_R.device).fan_out_M[node_R]


def require_valid(trie: Trie, token_R: Tensor, node_R: Tensor, row_R: Tensor) -> None:
    """Check that every label is among its valid tokens.

    Args:
        trie: the catalogue.
        token_R: labels.
        node_R: trie node at which each is chosen.
        row_R: sequence each belongs to, for the message.

    Raises:
        ConfigError: one is not; names sequence, position and token.
    """
    child_R = torch.from_numpy(trie.step(node_R.cpu().numpy(), token_R.cpu().numpy()))
    wrong = torch.nonzero(child_R < 0).flatten()
    if len(wrong) == 0:
        return
    at = int(wrong[0])
    node = int(node_R[at])
    visit = int(np.flatnonzero(trie.path.values == node)[0])
    position = visit - int(
        trie.path.offsets[np.searchsorted(trie.path.offsets, visit, "right") - 1]
    )
    raise ConfigError(
        f"sequence {int(row_R[at])}, answer position {position}: token {int(token_R[at])} is not one "
        f"of the {int(trie.fan_out_M[node])} valid tokens of its prefix; titles, tokenizer or end "
        "token differ from those of the trie"
    )


class _Edges(NamedTuple):
    """Valid tokens of the batch's distinct nodes, largest node first."""

    token_E: Tensor
    group_E: Tensor
    start_G: Tensor
    weight_E: Tensor | None


def plan(
    trie: Trie, token_R: Tensor, node_R: Tensor, weight_E: Tensor | None = None
) -> list[Block]:
    """Cut rows into blocks such that the matrix products and their launches cost little in total.

    A few large nodes that many rows share (the root, the opening quote) may get a block each; the others
    share one union of tokens.

    Args:
        trie: the catalogue.
        token_R: labels; every row has more than one valid token.
        node_R: trie node at which each is chosen.
        weight_E: a weight for each edge of the trie, where blocks shall hold them.
    """
    on = trie_on(trie, node_R.device)
    node_G, group_R = torch.unique(node_R, return_inverse=True)
    size_G, order = on.fan_out_M[node_G].sort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    group_R = rank[group_R]
    edges = _edges(on, node_G[order], size_G, weight_E)
    row_R = group_R.argsort(stable=True)
    rows_G = torch.bincount(group_R, minlength=len(node_G))
    heavy = _heavy(edges, size_G, rows_G)
    first = torch.cat([rows_G.new_zeros(1), rows_G.cumsum(0)]).tolist()
    cuts = [(g, g + 1) for g in range(heavy)]
    if heavy < len(node_G):
        cuts.append((heavy, len(node_G)))
    return [
        _block(edges, (low, high), row_R[first[low] : first[high]], group_R, token_R)
        for low, high in cuts
    ]


def _edges(on: TrieOn, node_G: Tensor, size_G: Tensor, weight_E: Tensor | None) -> _Edges:
    start_G = torch.cat([size_G.new_zeros(1), size_G.cumsum(0)])
    group_E = torch.repeat_interleave(torch.arange(len(node_G), device=node_G.device), size_G)
    within_E = torch.arange(len(group_E), device=node_G.device) - start_G[group_E]
    edge_E = on.indptr_M[node_G][group_E] + within_E
    weights = None if weight_E is None else weight_E[edge_E]
    return _Edges(on.token_E[edge_E], group_E, start_G, weights)


def _heavy(edges: _Edges, size_G: Tensor, rows_G: Tensor) -> int:
    """How many of the largest nodes get a block of their own: the cheapest cut of all prefixes."""
    token_E, group_E = edges.token_E, edges.group_E
    last = torch.full((int(token_E.max()) + 1,), -1, device=token_E.device)
    last.scatter_reduce_(0, token_E, group_E, "amax")  # the last node that still needs a token
    needed_G = torch.bincount(last[last >= 0], minlength=len(size_G))
    union_K = needed_G.flip(0).cumsum(0).flip(0)[: MAX_BLOCKS + 1]
    rows_K = rows_G.flip(0).cumsum(0).flip(0)[: MAX_BLOCKS + 1]
    launch = BLOCK_COST[token_E.device.type if token_E.is_cuda else "cpu"]
    shared_K = (2 * rows_K + GATHER_COST) * union_K + launch
    own_G = (2 * rows_G + GATHER_COST) * size_G + launch
    own_K = (own_G.cumsum(0) - own_G)[: MAX_BLOCKS + 1]
    return int((shared_K + own_K).argmin())


def _block(
    edges: _Edges, groups: tuple[int, int], row_R: Tensor, group_R: Tensor, token_R: Tensor
) -> Block:
    low, high = groups
    span = slice(int(edges.start_G[low]), int(edges.start_G[high]))
    token_E = edges.token_E[span]
    labels = token_R[row_R]
    weight_E = None if edges.weight_E is None else edges.weight_E[span]
    if high - low == 1:
        label_R = torch.searchsorted(token_E, labels)
        return Block(
            row_R, token_E, None, None, label_R, None if weight_E is None else weight_E[None]
        )
    present = torch.zeros(int(token_E.max()) + 1, dtype=torch.bool, device=token_E.device)
    present[token_E] = True
    token_U = torch.nonzero(present).flatten()
    column = present.cumsum(0) - 1
    at = edges.group_E[span] - low, column[token_E]
    invalid = torch.ones(high - low, len(token_U), dtype=torch.bool, device=token_E.device)
    invalid[at] = False
    weight_GU = None
    if weight_E is not None:
        weight_GU = weight_E.new_zeros(high - low, len(token_U))
        weight_GU[at] = weight_E
    return Block(row_R, token_U, invalid, group_R[row_R] - low, column[labels], weight_GU)
