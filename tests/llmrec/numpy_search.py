"""The searches in NumPy, a row a prefix and candidates end to end: the dull version of the tensors'.

A search asks ``logp_BE`` for its log-probabilities: one per user and edge of the trie.
B users of a batch, W beams, C candidates end to end, X candidates kept (2 W), K list length, E edges,
O open prefixes, F found answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bench.types import BoolArray, IntArray
from llmrec.decode.exact_search import Limits
from llmrec.decode.rule import Rule
from llmrec.decode.trie_index import TrieIndex, index_of
from llmrec.trie import Trie

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """What is searched: the trie and the log-probability of every edge for every user."""

    trie: Trie
    rule: Rule
    logp_BE: Scores

    @property
    def n_users(self) -> int:
        return len(self.logp_BE)

    @property
    def index(self) -> TrieIndex:
        return index_of(self.trie)

    def step(self, user_R: IntArray, node_R: IntArray) -> tuple[IntArray, IntArray, Scores]:
        """For each child of the prefixes its row, its node and its log-probability."""
        row_C, edge_C = children(self.trie, node_R)
        logp_C = self.logp_BE[user_R[row_C], edge_C]
        if self.rule.a == "length":
            logp_C = logp_C * self.b_E[edge_C]
        return row_C, self.trie.child_E[edge_C].astype(np.int64), logp_C

    @cached_property
    def b_E(self) -> Scores:
        """What the token of each edge adds to the length."""
        fan_E = np.repeat(self.trie.fan_out_M, self.trie.fan_out_M)
        if self.rule.length == "tokens":
            return np.ones(len(fan_E))
        if self.rule.length == "branching":
            return (fan_E > 1) * 1.0
        return self.rule.al * np.log(fan_E) + self.rule.be

    @cached_property
    def lengths(self) -> tuple[Scores, Scores, Scores]:
        """Of each node: its length, and the least and most of the answers at or below it."""
        own_M = np.zeros(self.trie.n_nodes)
        least_M, most_M = np.full(self.trie.n_nodes, np.inf), np.full(self.trie.n_nodes, -np.inf)
        for path, answer in zip(self.trie.path, self.trie.answer, strict=True):
            nodes = [0]
            for node, token in zip(path, answer, strict=True):
                tokens, kids = self.trie.children(int(node))
                edge = int(self.trie.indptr_M[node]) + list(tokens).index(token)
                child = int(kids[list(tokens).index(token)])
                own_M[child] = own_M[node] + self.b_E[edge]
                nodes.append(child)
            least_M[nodes] = np.minimum(least_M[nodes], own_M[nodes[-1]])
            most_M[nodes] = np.maximum(most_M[nodes], own_M[nodes[-1]])
        return own_M, least_M, most_M

    def divided(self, score: Scores, length: Scores) -> Scores:
        if self.rule.length_penalty == 0:
            return score
        power = np.where(length == 0, 1, length) ** self.rule.length_penalty
        return np.where(length == 0, 0.0, score / power)

    def final(self, score: Scores, node: IntArray) -> Scores:
        """Scores of answers that end at these nodes, or of beams that stand there."""
        return np.where(np.isneginf(score), score, self.divided(score, self.lengths[0][node]))

    def bound(self, score: Scores, node: IntArray) -> Scores:
        """The best final score that any answer below these nodes can still reach."""
        helps = self.lengths[2 if self.rule.length_penalty > 0 else 1]
        return self.divided(score, helps[node])


def children(trie: Trie, node_R: IntArray) -> tuple[IntArray, IntArray]:
    """Row and edge of the children of several nodes, end to end."""
    count_R = trie.fan_out_M[node_R]
    row_C = np.repeat(np.arange(len(node_R)), count_R)
    within_C = np.arange(len(row_C)) - np.repeat(np.cumsum(count_R) - count_R, count_R)
    return row_C, trie.indptr_M[node_R][row_C] + within_C


def best(user_C: IntArray, score_C: Scores, tie_C: IntArray, n_users: int, width: int) -> IntArray:
    """The ``width`` best candidates of each user, best first, ties to the smaller ``tie_C``.

    Args:
        user_C: owner of each candidate, ascending.
        score_C: higher is better.
        tie_C: decides between equal scores.
        n_users: B.
        width: candidates wanted per user.

    Returns:
        Candidate numbers, -1 where a user has fewer, int64 [B, width].
    """
    count_B = np.bincount(user_C, minlength=n_users)
    start_B = np.cumsum(count_B) - count_B
    if count_B.max(initial=0) > width:  # only what reaches the width-th score needs sorting
        score_BC = np.full((n_users, int(count_B.max())), -np.inf)
        score_BC[user_C, np.arange(len(user_C)) - start_B[user_C]] = score_C
        threshold_B = np.partition(score_BC, -width, axis=1)[:, -width]
        near = np.flatnonzero(score_C >= threshold_B[user_C])
    else:
        near = np.arange(len(user_C))
    order = near[np.lexsort((tie_C[near], -score_C[near], user_C[near]))]
    user = user_C[order]
    rank = np.arange(len(order)) - np.searchsorted(user, user)
    kept_BX = np.full((n_users, width), -1, np.int64)
    inside = rank < width
    kept_BX[user[inside], rank[inside]] = order[inside]
    return kept_BX


class BeamSearch:
    """One batch of users.

    Attributes:
        node_BW, score_BW: running beams, best first; -1 and -inf where there is none.
        leaf_BW, final_BW: finished answers, best first; -1 and -inf where there is none.
        open_B: users whose search goes on.
        lost_B: best final score that anything dropped so far could have reached.
    """

    def __init__(self, tree: Table, beams: int) -> None:
        self.tree, self.rule, self.beams = tree, tree.rule, beams
        self.node_BW = np.full((tree.n_users, beams), -1, np.int64)
        self.score_BW = np.full((tree.n_users, beams), -np.inf)
        self.node_BW[:, 0], self.score_BW[:, 0] = 0, 0.0
        self.leaf_BW: IntArray = np.full((tree.n_users, beams), -1, np.int64)
        self.final_BW: Scores = np.full((tree.n_users, beams), -np.inf)
        self.open_B: BoolArray = np.ones(tree.n_users, bool)
        self.lost_B = np.full(tree.n_users, -np.inf)

    def run(self) -> None:
        """Search until no user is open."""
        while self.open_B.any():
            self._advance()
            self._close()

    def _advance(self) -> None:
        """Extend every running beam by one token and keep the best."""
        # twice the beams, as transformers has it: even if W candidates end here, W others go on
        trie, index, width = self.tree.trie, self.tree.index, 2 * self.beams
        user_R, beam_R = np.nonzero(self.open_B[:, None] & (self.node_BW >= 0))
        row_C, child_C, logp_C = self.tree.step(user_R, self.node_BW[user_R, beam_R])
        user_C = user_R[row_C]
        score_C = self.score_BW[user_R, beam_R][row_C] + logp_C
        by_C = self.tree.final(score_C, child_C) if self.rule.prune == "score" else score_C
        kept_BX = best(user_C, by_C, index.first_leaf_M[child_C], len(self.open_B), width)
        ended_BX = (kept_BX >= 0) & (trie.leaf_M[child_C[kept_BX]] >= 0)
        # transformers drops an ended candidate that is not among the best W
        finish_BX = ended_BX & (np.arange(width) < self.beams)
        run_BX = (kept_BX >= 0) & ~ended_BX
        run_BX &= np.cumsum(run_BX, 1) <= self.beams
        dropped_C = np.ones(len(child_C), bool)
        dropped_C[kept_BX[finish_BX | run_BX]] = False
        # a list is certified if it beats the best answer that anything dropped could have led to
        bound_C = self.tree.bound(score_C, child_C)
        np.maximum.at(self.lost_B, user_C[dropped_C], bound_C[dropped_C])
        self._finish(np.where(finish_BX, kept_BX, -1), child_C, score_C)
        self._keep(run_BX, kept_BX, child_C, score_C)

    def _finish(self, at_BX: IntArray, child_C: IntArray, score_C: Scores) -> None:
        """Put ended candidates (-1 for none) among the finished answers."""
        leaf_BX = np.where(at_BX >= 0, self.tree.trie.leaf_M[child_C[at_BX]], -1)
        final_BX = np.where(at_BX >= 0, self.tree.final(score_C[at_BX], child_C[at_BX]), -np.inf)
        self._merge(leaf_BX, final_BX)

    def _merge(self, leaf_BX: IntArray, final_BX: Scores) -> None:
        leaf = np.concatenate([self.leaf_BW, leaf_BX], 1)
        final = np.concatenate([self.final_BW, final_BX], 1)
        # ties go to the smaller leaf, so that lists do not depend on the order of the search
        order = np.lexsort((leaf, -final), axis=1)[:, : self.beams]
        self.leaf_BW = np.take_along_axis(leaf, order, 1)
        self.final_BW = np.take_along_axis(final, order, 1)

    def _keep(
        self, run_BX: BoolArray, kept_BX: IntArray, child_C: IntArray, score_C: Scores
    ) -> None:
        """The unfinished candidates become the running beams, in order."""
        self.node_BW[:], self.score_BW[:] = -1, -np.inf
        user, column = np.nonzero(run_BX)
        place = (np.cumsum(run_BX, 1) - 1)[user, column]
        at = kept_BX[user, column]
        self.node_BW[user, place], self.score_BW[user, place] = child_C[at], score_C[at]

    def _close(self) -> None:
        """Close users whose running beams cannot change the result any more."""
        self._skip_tails()
        running_B = self.open_B & (self.node_BW[:, 0] >= 0)
        best_B = self.tree.final(self.score_BW, self.node_BW).max(1)
        improvable_B = (self.leaf_BW[:, -1] < 0) | (best_B > self.final_BW[:, -1])
        stopped_B = running_B & ~improvable_B
        user, beam = np.nonzero(stopped_B[:, None] & (self.node_BW >= 0))
        bound = self.tree.bound(self.score_BW[user, beam], self.node_BW[user, beam])
        np.maximum.at(self.lost_B, user, bound)
        self.open_B = running_B & improvable_B
        self.node_BW[~self.open_B] = -1

    def _skip_tails(self) -> None:
        """Where forced tokens cost nothing and no length counts, a beam with one leaf left is that leaf."""
        if not self.rule.forced_is_free or self.rule.length_penalty != 0:
            return
        sole_BW = np.where(self.node_BW >= 0, self.tree.trie.sole_leaf_M[self.node_BW], -1)
        decided_B = ((sole_BW >= 0) | (self.node_BW < 0)).all(1) & self.open_B
        leaf_BW = np.where(decided_B[:, None], sole_BW, -1)
        self._merge(leaf_BW, np.where(leaf_BW >= 0, self.score_BW, -np.inf))
        self.node_BW[decided_B] = -1

    def certified(self, k: int, margin: float) -> BoolArray:
        """Users for whom nothing that was dropped can belong to the best ``k``."""
        nothing_lost = np.isneginf(self.lost_B)
        return nothing_lost | (self.final_BW[:, k - 1] >= self.lost_B + margin)


class ExactSearch:
    """One batch of users.

    Attributes:
        user_O, node_O, score_O, bound_O: open prefixes, each at a node with a choice.
        leaf_BK, final_BK: best answers so far; -1 and -inf where there is none.
        expanded_B: prefixes expanded for each user.
    """

    def __init__(self, tree: Table, config: Limits) -> None:
        self.tree, self.config, k, self.margin = tree, config, config.k, config.margin
        self.leaf_BK: IntArray = np.full((tree.n_users, k), -1, np.int64)
        self.final_BK: Scores = np.full((tree.n_users, k), -np.inf)
        self.expanded_B = np.zeros(tree.n_users, np.int64)
        self.user_O: IntArray = np.zeros(0, np.int64)
        self.node_O: IntArray = np.zeros(0, np.int64)
        self.score_O: Scores = np.zeros(0)
        self.bound_O: Scores = np.zeros(0)
        users = np.arange(tree.n_users)
        self._sort_in(users, np.zeros_like(users), np.zeros(len(users)))

    def run(self) -> None:
        """Expand the most promising prefixes until none can enter a list or the budget is spent."""
        while len(chosen := self._choose()):
            user_R, node_R, score_R = self.user_O[chosen], self.node_O[chosen], self.score_O[chosen]
            self._remove(chosen)
            self.expanded_B += np.bincount(user_R, minlength=self.tree.n_users)
            row_C, child_C, logp_C = self.tree.step(user_R, node_R)
            self._sort_in(user_R[row_C], child_C, score_R[row_C] + logp_C)

    def _choose(self) -> IntArray:
        """The next prefixes to expand, numbers into the open ones, grouped by user."""
        self._remove(np.flatnonzero(~self._promising()))
        left_B = self.config.budget - self.expanded_B
        able = np.flatnonzero(left_B[self.user_O] > 0)
        able = able[np.argsort(self.user_O[able], kind="stable")]
        tie = self.tree.index.first_leaf_M[self.node_O[able]]
        picked_BX = best(
            self.user_O[able], self.bound_O[able], tie, self.tree.n_users, self.config.width
        )
        picked_BX[np.arange(self.config.width) >= left_B[:, None]] = -1
        return able[picked_BX[picked_BX >= 0]]

    def _promising(self) -> BoolArray:
        """Open prefixes below which an answer of the list may lie."""
        # the margin keeps rounding from closing a prefix whose answers tie with the list's last
        return self.bound_O >= self.final_BK[self.user_O, -1] - self.margin

    def _remove(self, which: IntArray) -> None:
        keep = np.ones(len(self.user_O), bool)
        keep[which] = False
        for name in ("user_O", "node_O", "score_O", "bound_O"):
            setattr(self, name, getattr(self, name)[keep])

    def _sort_in(self, user_C: IntArray, child_C: IntArray, score_C: Scores) -> None:
        """Complete answers go to the lists, the rest becomes open."""
        trie, index = self.tree.trie, self.tree.index
        # without a further choice the rest of an answer has probability 1, so its score is known
        sole_C = trie.sole_leaf_M[child_C]
        found = sole_C >= 0
        self._merge(user_C[found], sole_C[found], score_C[found])
        open_ = ~found
        node = index.branch_M[child_C[open_]]
        self.user_O = np.concatenate([self.user_O, user_C[open_]])
        self.node_O = np.concatenate([self.node_O, node])
        self.score_O = np.concatenate([self.score_O, score_C[open_]])
        self.bound_O = np.concatenate([self.bound_O, self.tree.bound(score_C[open_], node)])

    def _merge(self, user_F: IntArray, leaf_F: IntArray, score_F: Scores) -> None:
        """Put found answers, grouped by user, among the best."""
        ends = np.flatnonzero(self.tree.trie.leaf_M >= 0)
        node_L = ends[np.argsort(self.tree.trie.leaf_M[ends])]
        final_F = self.tree.final(score_F, node_L[leaf_F])
        k = self.leaf_BK.shape[1]
        if len(user_F) == 0:
            return
        at_BK = best(user_F, final_F, leaf_F, self.tree.n_users, k)
        leaf = np.concatenate([self.leaf_BK, np.where(at_BK >= 0, leaf_F[at_BK], -1)], 1)
        final = np.concatenate([self.final_BK, np.where(at_BK >= 0, final_F[at_BK], -np.inf)], 1)
        order = np.lexsort((leaf, -final), axis=1)[:, :k]
        self.leaf_BK = np.take_along_axis(leaf, order, 1)
        self.final_BK = np.take_along_axis(final, order, 1)

    def proven(self) -> BoolArray:
        """Users with no open prefix left that could enter the list."""
        doubtful = self.user_O[self._promising()]
        return np.bincount(doubtful, minlength=self.tree.n_users) == 0
