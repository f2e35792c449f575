"""The true top K of the catalogue, by branch and bound over the title trie.

Log-probabilities only fall along a path, so a prefix that is worse than K complete answers can be left
aside with everything below it. In ``valid`` space an answer is complete at its last choice. The search
ends when no open prefix can still enter the list: that is the proof. See also BEAR (arXiv 2601.22925)
on what beam search loses.
Q queries, K list length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from bench.registry import decoders
from bench.types import IntArray
from llmrec.decode.base import (
    Decoded,
    Decoder,
    DecoderConfig,
    Progress,
    blank,
    evaluating,
    in_batches,
    need,
)
from llmrec.decode.costs import users_at_once
from llmrec.decode.exact_search import Limits, search
from llmrec.decode.scoring import Continuations, Rule, Tau, slack, temperature

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
        rule, tokens = self.config.scoring, 0
        limits = Limits(k=k, width=self.config.width, budget=self.config.budget, margin=slack(lm))

        def decode(rows: IntArray) -> None:
            nonlocal tokens
            with evaluating(lm):
                follow = Continuations(lm, [prompts[row] for row in rows], trie, rule)
                end, proven_B = search(follow.trie, rule, follow, len(rows), limits)
            leaf_QK[rows], score_QK[rows] = end.leaf_BK.cpu().numpy(), end.final_BK.cpu().numpy()
            certified_Q[rows], expanded_Q[rows] = (
                proven_B.cpu().numpy(),
                end.expanded_B.cpu().numpy(),
            )
            tokens += follow.tokens

        in_batches(prompts, users_at_once(lm, prompts, self.config.batch), decode, progress)
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
