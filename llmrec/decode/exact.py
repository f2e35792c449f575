"""The true top K of the catalogue, by branch and bound over the title trie.

Log-probabilities only fall along a path, so a prefix that is worse than K complete answers can be left
aside with everything below it. In ``valid`` space an answer is complete at its last choice. The search
ends when no open prefix can still enter the list: that is the proof. See also BEAR (arXiv 2601.22925)
on what beam search loses.
Q queries, B users of a batch, K list length, O open prefixes, F found answers, C children end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from bench.registry import decoders
from bench.types import BoolArray, IntArray
from llmrec.decode.base import (
    Decoded,
    Decoder,
    DecoderConfig,
    Progress,
    batches,
    blank,
    evaluating,
    need,
)
from llmrec.decode.scoring import Rule, Scores, Tau, slack, step, temperature
from llmrec.decode.top_k import best
from llmrec.decode.tree import Tree

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie


class ExactConfig(DecoderConfig):
    """Options of the exact search; its scores are log-probabilities among valid tokens."""

    tau: Tau = 1.0
    """Temperature under the softmax; ``train`` for the one a method was trained with."""
    length_penalty: float = 0.0
    """Exponent of the length the score is divided by."""
    budget: PositiveInt = 2000
    """Prefixes expanded per user at most; a user who needs more is left uncertified."""
    width: PositiveInt = 5
    """Prefixes expanded per user and forward pass; moves speed only."""

    @property
    def scoring(self) -> Rule:
        """The scoring rule of these options."""
        return Rule(space="valid", length_penalty=self.length_penalty, tau=temperature(self.tau))


@decoders.register("exact")
class Exact(Decoder):
    """Best-first search with a proof."""

    Config = ExactConfig
    config: ExactConfig

    @property
    def rule(self) -> str:
        """The scoring rule in words."""
        return f"exact, {self.config.scoring.words}"

    def __call__(
        self,
        lm: Backbone,
        prompts: Sequence[Prompt],
        trie: Trie,
        k: int,
        *,
        progress: Progress | None = None,
    ) -> Decoded:
        """The ``k`` best answers of the catalogue; see ``Decoder``."""
        need("k", k, low=1)
        leaf_QK, score_QK = blank(len(prompts), k)
        certified_Q = np.zeros(len(prompts), bool)
        expanded_Q = np.zeros(len(prompts), np.int64)
        done, tokens = 0, 0
        for rows in batches(prompts, self.config.batch):
            with evaluating(lm):
                tree = Tree(lm, [prompts[row] for row in rows], trie)
                search = _Search(tree, self.config, k, slack(lm))
                search.run()
            leaf_QK[rows], score_QK[rows] = search.leaf_BK, search.final_BK
            certified_Q[rows], expanded_Q[rows] = search.proven(), search.expanded_B
            tokens += tree.tokens
            done += len(rows)
            if progress:
                progress(done, len(prompts))
        facts = {
            "space": "valid",
            "length_penalty": self.config.length_penalty,
            "decode_tau": self.config.tau,
            "expansions_per_user": float(expanded_Q.mean()) if len(prompts) else 0.0,
            "expansions_max": int(expanded_Q.max(initial=0)),
            "tree_tokens_per_user": tokens / max(len(prompts), 1),
            "certified_share": float(certified_Q.mean()) if len(prompts) else 0.0,
        }
        return Decoded(leaf_QK, score_QK, certified_Q, leaf_QK[:, 0] < 0, facts)


class _Search:
    """One batch of users.

    Attributes:
        user_O, node_O, score_O, bound_O: open prefixes, each at a node with a choice.
        leaf_BK, final_BK: best answers so far; -1 and -inf where there is none.
        expanded_B: prefixes expanded for each user.
    """

    def __init__(self, tree: Tree, config: ExactConfig, k: int, margin: float) -> None:
        self.tree, self.config, self.rule, self.margin = tree, config, config.scoring, margin
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
            row_C, child_C, logp_C = step(self.tree, self.rule, user_R, node_R)
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
        self.bound_O = np.concatenate([self.bound_O, self.rule.bound(score_C[open_], node, index)])

    def _merge(self, user_F: IntArray, leaf_F: IntArray, score_F: Scores) -> None:
        """Put found answers, grouped by user, among the best."""
        final_F = self.rule.final(score_F, self.tree.trie.answer.lengths[leaf_F])
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
