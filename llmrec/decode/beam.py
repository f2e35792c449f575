"""Constrained beam search over the title trie, all users and beams at once.

Finds what transformers' own beam search finds under the same scoring rule (candidates, finished
hypotheses and the stopping rule are those of its ``early_stopping=False``), and certifies a list when
nothing it ever dropped could have entered it. In ``valid`` space a forced token costs nothing: its log
probability is 0 and it is computed only if a later choice depends on it.

Q queries, B users of a batch, W beams, C candidates end to end, X candidates kept (2 W), K list length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from bench.config import later
from bench.errors import ConfigError
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
from llmrec.decode.regret import audit
from llmrec.decode.scoring import (
    Rule,
    Scores,
    Space,
    Tau,
    slack,
    step,
    temperature,
)
from llmrec.decode.top_k import best
from llmrec.decode.tree import Tree

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie


class BeamConfig(DecoderConfig):
    """Options of the beam search."""

    beams: PositiveInt = 10
    """Width; the paper's code uses 10."""
    space: Space = "valid"
    """Softmax over the ``valid`` tokens, or over the ``full`` vocabulary as the released code does."""
    length_penalty: float = 0.0
    """Exponent of the length the score is divided by; the released code leaves 1."""
    tau: Tau = 1.0
    """Temperature under the softmax; 1 is the released code's, whatever tau was trained with; ``train``
    asks a method for the one it was trained with."""
    audit: NonNegativeInt = later(default=32)
    """Users, an eighth of all at most, whose exact lists are computed as well to tell what the beams lose
    (``valid`` space only); 0 for none. Moves no list."""

    @property
    def scoring(self) -> Rule:
        """The scoring rule of these options."""
        return Rule(space=self.space, length_penalty=self.length_penalty, tau=temperature(self.tau))


@decoders.register("beam")
class Beam(Decoder):
    """Beam search with a certificate."""

    Config = BeamConfig
    config: BeamConfig

    @property
    def rule(self) -> str:
        """The scoring rule in words."""
        return f"beam {self.config.beams}, {self.config.scoring.words}"

    def __call__(
        self,
        lm: Backbone,
        prompts: Sequence[Prompt],
        trie: Trie,
        k: int,
        *,
        progress: Progress | None = None,
    ) -> Decoded:
        """The ``k`` best answers among the finished beams; see ``Decoder``.

        Raises:
            ConfigError: ``k`` is larger than the number of beams.
        """
        require_beams(k, self.config.beams)
        leaf_QK, score_QK = blank(len(prompts), k)
        certified_Q = np.zeros(len(prompts), bool)
        rule, done, forwards, tokens = self.config.scoring, 0, 0, 0
        for rows in batches(prompts, self.config.batch):
            with evaluating(lm):
                tree = Tree(lm, [prompts[row] for row in rows], trie)
                search = _Search(tree, rule, self.config.beams)
                forwards = max(forwards, search.run())
            leaf_QK[rows], score_QK[rows] = search.leaf_BW[:, :k], search.final_BW[:, :k]
            certified_Q[rows] = search.certified(k, slack(lm))
            tokens += tree.tokens
            done += len(rows)
            if progress:
                progress(done, len(prompts))
        facts: dict[str, Any] = {
            "beams": self.config.beams,
            "space": rule.space,
            "length_penalty": rule.length_penalty,
            "decode_tau": rule.tau,
            "decode_steps": forwards,  # "steps" are the optimizer's
            "tree_tokens_per_user": tokens / max(len(prompts), 1),
            "certified_share": float(certified_Q.mean()) if len(prompts) else 0.0,
        }
        facts |= audit(lm, prompts, trie, leaf_QK, rule, users=self.config.audit)
        return Decoded(leaf_QK, score_QK, certified_Q, leaf_QK[:, 0] < 0, facts)


def require_beams(k: int, beams: int) -> None:
    """Refuse a list longer than the number of beams, or without length.

    Args:
        k: length of the list that is asked for.
        beams: width of the beam search.

    Raises:
        ConfigError: names both.
    """
    need("k", k, low=1)
    if k > beams:
        raise ConfigError(
            f"a list of {k} from {beams} beams is not defined; set beams to at least {k} or take the "
            "decoder 'exact'"
        )


class _Search:
    """One batch of users.

    Attributes:
        node_BW, score_BW: running beams, best first; -1 and -inf where there is none.
        leaf_BW, final_BW: finished answers, best first; -1 and -inf where there is none.
        open_B: users whose search goes on.
        lost_B: best final score that anything dropped so far could have reached.
    """

    def __init__(self, tree: Tree, rule: Rule, beams: int) -> None:
        self.tree, self.rule, self.beams = tree, rule, beams
        self.node_BW = np.full((tree.n_users, beams), -1, np.int64)
        self.score_BW = np.full((tree.n_users, beams), -np.inf)
        self.node_BW[:, 0], self.score_BW[:, 0] = 0, 0.0
        self.leaf_BW: IntArray = np.full((tree.n_users, beams), -1, np.int64)
        self.final_BW: Scores = np.full((tree.n_users, beams), -np.inf)
        self.open_B: BoolArray = np.ones(tree.n_users, bool)
        self.lost_B = np.full(tree.n_users, -np.inf)
        self.length = 0

    def run(self) -> int:
        """Search until no user is open; returns the number of steps that ran the model."""
        forwards = 0
        while self.open_B.any():
            before = self.tree.tokens
            self._advance()
            forwards += self.tree.tokens > before
            self._close()
        return forwards

    def _advance(self) -> None:
        """Extend every running beam by one token and keep the best."""
        # twice the beams, as transformers has it: even if W candidates end here, W others go on
        trie, index, width = self.tree.trie, self.tree.index, 2 * self.beams
        user_R, beam_R = np.nonzero(self.open_B[:, None] & (self.node_BW >= 0))
        row_C, child_C, logp_C = step(self.tree, self.rule, user_R, self.node_BW[user_R, beam_R])
        user_C = user_R[row_C]
        score_C = self.score_BW[user_R, beam_R][row_C] + logp_C
        kept_BX = best(user_C, score_C, index.first_leaf_M[child_C], len(self.open_B), width)
        self.length += 1
        ended_BX = (kept_BX >= 0) & (trie.leaf_M[child_C[kept_BX]] >= 0)
        # transformers drops an ended candidate that is not among the best W
        finish_BX = ended_BX & (np.arange(width) < self.beams)
        run_BX = (kept_BX >= 0) & ~ended_BX
        run_BX &= np.cumsum(run_BX, 1) <= self.beams
        dropped_C = np.ones(len(child_C), bool)
        dropped_C[kept_BX[finish_BX | run_BX]] = False
        # a list is certified if it beats the best answer that anything dropped could have led to
        bound_C = self.rule.bound(score_C, child_C, index)
        np.maximum.at(self.lost_B, user_C[dropped_C], bound_C[dropped_C])
        self._finish(np.where(finish_BX, kept_BX, -1), child_C, score_C)
        self._keep(run_BX, kept_BX, child_C, score_C)

    def _finish(self, at_BX: IntArray, child_C: IntArray, score_C: Scores) -> None:
        """Put ended candidates (-1 for none) among the finished answers."""
        leaf_BX = np.where(at_BX >= 0, self.tree.trie.leaf_M[child_C[at_BX]], -1)
        final_BX = np.where(
            at_BX >= 0, self.rule.final(score_C[at_BX], np.full(at_BX.shape, self.length)), -np.inf
        )
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
        best_B = self.rule.final(self.score_BW[:, 0], np.full(len(running_B), self.length))
        improvable_B = (self.leaf_BW[:, -1] < 0) | (best_B > self.final_BW[:, -1])
        stopped_B = running_B & ~improvable_B
        user, beam = np.nonzero(stopped_B[:, None] & (self.node_BW >= 0))
        bound = self.rule.bound(
            self.score_BW[user, beam], self.node_BW[user, beam], self.tree.index
        )
        np.maximum.at(self.lost_B, user, bound)
        self.open_B = running_B & improvable_B
        self.node_BW[~self.open_B] = -1

    def _skip_tails(self) -> None:
        """In ``valid`` space without length penalty a beam with one leaf left is that leaf already."""
        if self.rule.space == "full" or self.rule.length_penalty != 0:
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
