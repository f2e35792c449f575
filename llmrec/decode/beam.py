"""Constrained beam search over the title trie, all users and beams at once.

Finds what transformers' own beam search finds under the same scoring rule (candidates, finished
hypotheses and the stopping rule are those of its ``early_stopping=False``), and certifies a list when
nothing it ever dropped could have entered it. In ``valid`` space a forced token costs nothing: its log
probability is 0 and it is computed only if a later choice depends on it. LBR's decoder is ``space: full,
length: fan_out, a: length, length_penalty: 1, prune: score``; D3's length without forced tokens is ``length:
branching``.

Q queries, W beams, K list length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

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
from llmrec.decode.beam_search import search
from llmrec.decode.costs import users_at_once
from llmrec.decode.regret import audit
from llmrec.decode.rule import Prune, Rule, RuleConfig, Space
from llmrec.decode.scoring import Continuations, slack

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie


class BeamConfig(RuleConfig):
    """Options of the beam search."""

    beams: PositiveInt = 10
    """Width; the paper's code uses 10."""
    space: Space = "valid"
    """Softmax over the ``valid`` tokens, or over the ``full`` vocabulary as the released code does."""
    prune: Prune = later(default="sum")
    """What unfinished beams are compared by: the weighted ``sum`` of log-probabilities, as in transformers,
    or the ``score``, the sum divided as at the end (LBR)."""
    audit: NonNegativeInt = later(default=32)
    """Users, an eighth of all at most, whose exact lists are computed as well to tell what the beams lose
    (where forced tokens cost nothing, as in ``valid`` space); 0 for none. Moves no list."""

    @property
    def scoring(self) -> Rule:
        """The scoring rule of these options."""
        return Rule(space=self.space, prune=self.prune, **self.rule_options)


@decoders.register("beam")
class Beam(Decoder):
    """Beam search with a certificate."""

    Config = BeamConfig
    config: BeamConfig
    follows: Callable[..., Continuations] = Continuations  # what gives the log-probabilities

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
        rule, forwards, tokens = self.config.scoring, 0, 0

        def decode(rows: IntArray) -> None:
            nonlocal forwards, tokens
            with evaluating(lm):
                follow = self.follows(lm, [prompts[row] for row in rows], trie, rule)
                end, steps = search(follow.trie, rule, follow, len(rows), self.config.beams)
            leaf_QK[rows] = end.leaf_BW[:, :k].cpu().numpy()
            score_QK[rows] = end.final_BW[:, :k].cpu().numpy()
            certified_Q[rows] = end.certified(k, slack(lm)).cpu().numpy()
            forwards, tokens = max(forwards, steps), tokens + follow.tokens

        in_batches(prompts, users_at_once(lm, prompts, self.config.batch), decode, progress)
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
