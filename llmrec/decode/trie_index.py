"""What a search asks of a trie again and again, computed once per trie. M trie nodes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from llmrec.trie import Trie


class TrieIndex:
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
def index_of(trie: Trie) -> TrieIndex:
    """The index of a trie, computed once."""
    return TrieIndex(trie)
