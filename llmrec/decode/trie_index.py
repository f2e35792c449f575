"""What a search asks of a trie again and again, computed once per trie. M trie nodes."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from llmrec.trie import Trie


class TrieIndex:
    """What a search asks of a trie again and again, by node.

    Attributes:
        parent_M, token_M, depth_M: of the edge into a node; -1, 0 and 0 at the root.
        first_leaf_M: smallest leaf at or below a node, which is the leaf with the smallest item id.
        is_leaf_M: whether an answer ends here.
        branch_M: the first node at or below with a choice or an end (unary chains are skipped).
    """

    def __init__(self, trie: Trie) -> None:
        fan = trie.fan_out_M
        self.parent_M = np.concatenate([[-1], np.repeat(np.arange(trie.n_nodes), fan)])
        self.token_M = np.concatenate([[0], trie.token_E])
        self.depth_M = np.zeros(trie.n_nodes, np.int64)
        inside, below = trie.path.values, np.repeat(np.arange(trie.n_leaves), trie.path.lengths)
        self.depth_M[inside] = np.arange(len(inside)) - trie.path.offsets[:-1][below]
        self.is_leaf_M = trie.leaf_M >= 0
        ends = np.flatnonzero(self.is_leaf_M)
        self.depth_M[ends] = trie.answer.lengths[trie.leaf_M[ends]]
        self.first_leaf_M = np.full(trie.n_nodes, trie.n_leaves, np.int64)
        self.first_leaf_M[ends] = trie.leaf_M[ends]
        np.minimum.at(self.first_leaf_M, inside, below)
        self.branch_M = np.arange(trie.n_nodes)
        unary = np.flatnonzero(fan == 1)
        child = trie.child_E[trie.indptr_M[unary]]
        depth = self.depth_M[unary]
        for level in range(int(depth.max(initial=0)), -1, -1):
            at = depth == level
            self.branch_M[unary[at]] = self.branch_M[child[at]]

    @cached_property
    def levels(self) -> list[npt.NDArray[np.int64]]:
        """The nodes of each depth below the root, from the first on, ascending."""
        order = np.argsort(self.depth_M, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.depth_M))[:-1])[1:]

    def summed(self, value_M: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sum of the values of all nodes from the root to each node, [M]."""
        total_M = value_M.copy()
        for level in self.levels:
            total_M[level] += total_M[self.parent_M[level]]
        return total_M

    def extremes(
        self, value_M: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The least and the most that any leaf at or below each node has, [M] each.

        Args:
            value_M: values of the nodes; those of leaves are looked at.
        """
        least_M = np.where(self.is_leaf_M, value_M, np.inf)
        most_M = np.where(self.is_leaf_M, value_M, -np.inf)
        for level in reversed(self.levels):
            np.minimum.at(least_M, self.parent_M[level], least_M[level])
            np.maximum.at(most_M, self.parent_M[level], most_M[level])
        return least_M, most_M


@lru_cache(maxsize=8)
def index_of(trie: Trie) -> TrieIndex:
    """The index of a trie, computed once."""
    return TrieIndex(trie)
