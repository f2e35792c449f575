"""The true top K of the catalogue, by branch and bound over the title trie.

Log-probabilities only fall along a path, so a prefix that is worse than K complete answers can be left
aside with everything below it. Forced tokens have to cost nothing, so that an answer is complete at its
last choice; lengths enter by the one that helps most below a prefix. The search
ends when no open prefix can still enter the list: that is the proof. See also BEAR (arXiv 2601.22925)
on what beam search loses.
Q queries, K list length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt, model_validator
from typing_extensions import Self

from bench.config import later
from bench.errors import ConfigError
from bench.registry import decoders
from bench.types import IntArray
from llmrec.decode.base import (
    Decoded,
    Decoder,
    Progress,
    blank,
    evaluating,
    in_batches,
    need,
)
from llmrec.decode.costs import users_at_once
from llmrec.decode.exact_search import Limits, search
from llmrec.decode.rule import Rule, RuleConfig, Space
from llmrec.decode.scoring import Continuations, slack

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie


class ExactConfig(RuleConfig):
    """Options of the exact search."""

    space: Space = later(default="valid")
    """Softmax over the ``valid`` tokens; over the ``full`` vocabulary only by a rule under which tokens
    without an alternative weigh nothing."""
    budget: PositiveInt = 2000
    """Prefixes expanded per user at most; a user who needs more is left uncertified."""
    width: PositiveInt = 5
    """Prefixes expanded per user and forward pass; moves speed only."""

    @model_validator(mode="after")
    def _forced_is_free(self) -> Self:
        names = ("space", "a", "length", "al", "be")
        if not Rule(**{name: getattr(self, name) for name in names}).forced_is_free:
            raise ConfigError(
                "space is 'full', where forced tokens cost something and no answer is complete at its last "
                "choice; take space 'valid', the decoder 'beam', or the option a 'length' together with "
                "length 'branching', or 'fan_out' and be 0"
            )
        return self

    @property
    def scoring(self) -> Rule:
        """The scoring rule of these options."""
        return Rule(space=self.space, **self.rule_options)


@decoders.register("exact")
class Exact(Decoder):
    """Best-first search with a proof."""

    Config = ExactConfig
    config: ExactConfig
    follows: Callable[..., Continuations] = Continuations  # what gives the log-probabilities

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
                follow = self.follows(lm, [prompts[row] for row in rows], trie, rule)
                end, proven_B = search(follow.trie, rule, follow, len(rows), limits)
            leaf_QK[rows], score_QK[rows] = end.leaf_BK.cpu().numpy(), end.final_BK.cpu().numpy()
            certified_Q[rows], expanded_Q[rows] = (
                proven_B.cpu().numpy(),
                end.expanded_B.cpu().numpy(),
            )
            tokens += follow.tokens

        in_batches(prompts, users_at_once(lm, prompts, self.config.batch), decode, progress)
        facts = {
            "space": rule.space,
            "length_penalty": self.config.length_penalty,
            "decode_tau": self.config.tau,
            "expansions_per_user": float(expanded_Q.mean()) if len(prompts) else 0.0,
            "expansions_max": int(expanded_Q.max(initial=0)),
            "tree_tokens_per_user": tokens / max(len(prompts), 1),
            "certified_share": float(certified_Q.mean()) if len(prompts) else 0.0,
        }
        return Decoded(leaf_QK, score_QK, certified_Q, leaf_QK[:, 0] < 0, facts)
