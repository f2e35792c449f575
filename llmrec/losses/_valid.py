"""Valid tokens of a batch of rows, and how to share them between rows.

Rows with one valid token never appear here. The others are cut into blocks; a block is one dense
matrix product of its rows with the union of their valid tokens, under a mask. All of it is planned in NumPy
from the trie, so that a device is handed finished indices and nobody waits for it. R rows, K of them with
a choice, G distinct trie nodes, U union of valid tokens.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.errors import ConfigError
from bench.types import IntArray
from llmrec.lm.device_costs import DeviceCosts, costs_of
from llmrec.lm.transfer import moved
from llmrec.trie import Trie


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


class _Cut(NamedTuple):
    """A block as whole numbers only, ready to be moved.

    ``valid_E`` are places in a flat [G, U], ``edge_E`` the edges of the trie that they stand for.
    """

    row_R: Tensor
    token_U: Tensor
    valid_E: Tensor
    group_R: Tensor
    label_R: Tensor
    edge_E: Tensor

    def block(self, groups: int, weight_E: Tensor | None) -> Block:
        """The block, its mask and its weights made on the device."""
        weights = None if weight_E is None else weight_E[self.edge_E]
        if groups == 1:
            line = None if weights is None else weights[None]
            return Block(self.row_R, self.token_U, None, None, self.label_R, line)
        size = groups * len(self.token_U)
        flat = torch.ones(size, dtype=torch.bool, device=self.row_R.device)
        invalid_GU = flat.index_fill_(0, self.valid_E, False).view(groups, -1)
        weight_GU = None
        if weights is not None:
            weight_GU = weights.new_zeros(size).index_copy_(0, self.valid_E, weights)
            weight_GU = weight_GU.view(groups, -1)
        return Block(self.row_R, self.token_U, invalid_GU, self.group_R, self.label_R, weight_GU)


@dataclass(frozen=True, eq=False)
class Plan:
    """Where a batch of rows has a choice, and by which matrix products its losses are found.

    Attributes:
        kept_R: rows with more than one valid token, as indices, [K].
        fan_out_K: how many each has, on the host.
        cuts: the blocks.
        groups: distinct nodes of each block.
    """

    kept_R: Tensor
    fan_out_K: IntArray
    cuts: tuple[_Cut, ...]
    groups: tuple[int, ...]

    def blocks(self, weight_E: Tensor | None = None) -> list[Block]:
        """The blocks, on the device of the plan.

        Args:
            weight_E: a weight for each edge of the trie, where blocks shall hold them.
        """
        pairs = zip(self.cuts, self.groups, strict=True)
        return [cut.block(groups, weight_E) for cut, groups in pairs]

    def to(self, device: torch.device) -> Plan:
        """The same on another device."""
        kept_R, *rest = moved([self.kept_R, *(part for cut in self.cuts for part in cut)], device)
        size = len(_Cut._fields)
        cuts = tuple(_Cut(*rest[at : at + size]) for at in range(0, len(rest), size))
        return Plan(kept_R, self.fan_out_K, cuts, self.groups)


_loaded: weakref.WeakKeyDictionary[Trie, dict[torch.device, Tensor]] = weakref.WeakKeyDictionary()


def fan_out(trie: Trie, node_R: Tensor) -> Tensor:
    """Number of valid tokens of each row, int64 [R]; the trie's numbers are copied to a device once.

    Args:
        trie: the catalogue.
        node_R: trie node of each row.
    """
    copies, device = _loaded.setdefault(trie, {}), node_R.device
    if device not in copies:
        copies[device] = torch.from_numpy(trie.fan_out_M).to(device, torch.int64)
    return copies[device][node_R]


def require_valid(trie: Trie, token_R: IntArray, node_R: IntArray, row_R: IntArray) -> None:
    """Check that every label is among its valid tokens.

    Args:
        trie: the catalogue.
        token_R: labels.
        node_R: trie node at which each is chosen.
        row_R: sequence each belongs to, for the message.

    Raises:
        ConfigError: one is not; names sequence, position and token.
    """
    wrong = np.flatnonzero(trie.step(node_R, token_R) < 0)
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

    token_E: IntArray
    group_E: IntArray
    start_G: IntArray
    edge_E: IntArray


def plan(
    trie: Trie, token_R: Tensor, node_R: Tensor, weight_E: Tensor | None = None
) -> list[Block]:
    """The blocks of rows that all have a choice, on the rows' device; the host reads the rows.

    Args:
        trie: the catalogue.
        token_R: labels.
        node_R: trie node at which each is chosen.
        weight_E: a weight for each edge of the trie, where blocks shall hold them.
    """
    labels_R, nodes_R = token_R.cpu().numpy(), node_R.cpu().numpy()
    found = planned(trie, labels_R, nodes_R, costs_of(node_R.device))
    return found.to(node_R.device).blocks(weight_E)


def planned(trie: Trie, token_R: IntArray, node_R: IntArray, costs: DeviceCosts) -> Plan:
    """Cut rows into blocks such that the matrix products and their launches cost little in total.

    A few large nodes that many rows share (the root, the opening quote) may get a block each; the others
    share one union of tokens.

    Args:
        trie: the catalogue.
        token_R: labels, each valid.
        node_R: trie node at which each is chosen.
        costs: of the device that the blocks are for.
    """
    kept_R = np.flatnonzero(trie.fan_out_M[node_R] > 1)
    token_K, node_K = token_R[kept_R], node_R[kept_R]
    node_G, group_K = np.unique(node_K, return_inverse=True)
    size_G = trie.fan_out_M[node_G]
    order = np.argsort(-size_G, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    group_K, size_G = rank[group_K], size_G[order]
    edges = _edges(trie, node_G[order], size_G)
    row_K = np.argsort(group_K, kind="stable")
    rows_G = np.bincount(group_K, minlength=len(node_G))
    heavy = _heavy(edges, size_G, rows_G, costs) if len(kept_R) else 0
    first = np.concatenate([[0], np.cumsum(rows_G)])
    spans = [(g, g + 1) for g in range(heavy)]
    if heavy < len(node_G):
        spans.append((heavy, len(node_G)))
    cuts = [
        _cut(edges, (low, high), row_K[first[low] : first[high]], group_K, token_K)
        for low, high in spans
    ]
    groups = tuple(high - low for low, high in spans)
    return Plan(torch.from_numpy(kept_R), trie.fan_out_M[node_K], tuple(cuts), groups)


def _edges(trie: Trie, node_G: IntArray, size_G: IntArray) -> _Edges:
    start_G = np.concatenate([[0], np.cumsum(size_G)])
    group_E = np.repeat(np.arange(len(node_G)), size_G)
    within_E = np.arange(len(group_E)) - start_G[group_E]
    edge_E = trie.indptr_M[node_G][group_E] + within_E
    return _Edges(trie.token_E[edge_E].astype(np.int64), group_E, start_G, edge_E)


def _heavy(edges: _Edges, size_G: IntArray, rows_G: IntArray, costs: DeviceCosts) -> int:
    """How many of the largest nodes get a block of their own: the cheapest cut of all prefixes."""
    token_E, group_E = edges.token_E, edges.group_E
    last = np.full(int(token_E.max()) + 1, -1)
    last[token_E] = group_E  # groups ascend: what stays is the last node that needs a token
    needed_G = np.bincount(last[last >= 0], minlength=len(size_G))
    most = slice(costs.max_blocks + 1)
    union_K = needed_G[::-1].cumsum()[::-1][most]
    rows_K = rows_G[::-1].cumsum()[::-1][most]
    shared_K = (2 * rows_K + costs.gather_cost) * union_K + costs.block_cost
    own_G = (2 * rows_G + costs.gather_cost) * size_G + costs.block_cost
    own_K = (own_G.cumsum() - own_G)[most]
    return int((shared_K + own_K).argmin())


def _cut(
    edges: _Edges, groups: tuple[int, int], row_R: IntArray, group_K: IntArray, token_K: IntArray
) -> _Cut:
    low, high = groups
    span = slice(int(edges.start_G[low]), int(edges.start_G[high]))
    token_E, labels_R = edges.token_E[span], token_K[row_R]
    nothing = np.zeros(0, np.int64)
    parts: tuple[IntArray, ...]
    if high - low == 1:
        parts = (row_R, token_E, nothing, nothing, np.searchsorted(token_E, labels_R))
    else:
        present = np.zeros(int(token_E.max()) + 1, bool)
        present[token_E] = True
        token_U, column = np.flatnonzero(present), np.cumsum(present) - 1
        valid_E = (edges.group_E[span] - low) * len(token_U) + column[token_E]
        parts = (row_R, token_U, valid_E, group_K[row_R] - low, column[labels_R])
    every = (*parts, edges.edge_E[span])
    return _Cut(*(torch.from_numpy(part.astype(np.int64)) for part in every))
