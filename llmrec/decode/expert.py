"""What another model thinks of the titles, along the trie: the other half of a product of experts.

``C(z)``, the probability of the child z of a prefix, is the mass of the answers below z over the mass below
the prefix, where an answer has the softmax mass of all items with its title. Along a path these factors
multiply to the mass of the answer.
B users, N items, L leaves, M trie nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.types import FloatArray, IntArray
from llmrec.decode.device_trie import Children
from llmrec.decode.rule import Rule
from llmrec.decode.scoring import Continuations
from llmrec.decode.trie_index import index_of
from llmrec.prompt import Prompt

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.trie import Trie

FLOOR = 1e-20  # mass of an answer at least, so that no logarithm is infinite
ItemScores = Callable[[IntArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Numbered(Prompt):
    """A prompt that knows which query it belongs to.

    Attributes:
        query: its number.
    """

    query: int = 0

    @classmethod
    def of(cls, prompts: Sequence[Prompt], query_P: IntArray) -> list[Numbered]:
        """Prompts with their numbers.

        Args:
            prompts: any prompts.
            query_P: the query of each.
        """
        return [
            cls(prompt.ids, prompt.slots, prompt.dropped, int(query))
            for prompt, query in zip(prompts, query_P, strict=True)
        ]


def leaf_mass(score_BN: FloatArray, trie: Trie) -> FloatArray:
    """Probability of each answer, float64 [B, L].

    Args:
        score_BN: scores of the items 1..N, whose softmax is meant; -inf for probability 0.
        trie: the catalogue; items with one title share an answer.
    """
    top_B1 = score_BN.max(1, keepdims=True)
    mass_BN = np.exp(score_BN.astype(np.float64) - np.where(np.isfinite(top_B1), top_B1, 0))
    mass_BN /= mass_BN.sum(1, keepdims=True)
    mass_LB = np.zeros((trie.n_leaves, len(score_BN)))
    np.add.at(mass_LB, trie.leaf_of_item_N[1:], mass_BN.T)
    return np.maximum(mass_LB.T, FLOOR)


def log_mass(mass_BL: FloatArray, trie: Trie) -> FloatArray:
    """Logarithm of the mass at or below each node, and 0 for "no prefix", float64 [B, M + 1].

    Args:
        mass_BL: probability of each answer.
        trie: the catalogue.
    """
    # sums by level instead of differences of prefix sums, which would lose every mass below 1e-16
    index = index_of(trie)
    mass_MB = np.zeros((trie.n_nodes, len(mass_BL)))
    ends = np.flatnonzero(index.is_leaf_M)
    mass_MB[ends] = mass_BL.T[trie.leaf_M[ends]]
    for level in reversed(index.levels):
        np.add.at(mass_MB, index.parent_M[level], mass_MB[level])
    return np.concatenate([np.log(mass_MB.T), np.zeros((len(mass_BL), 1))], 1)


class Advised(Continuations):
    """``g * log P + (1 - g) * log C`` of what may follow.

    Args:
        lm: the model, in evaluation mode.
        prompts: one per user, numbered.
        trie: the catalogue.
        rule: the scoring rule.
        g: weight of the language model.
        scores: of all items, for queries by number.
    """

    def __init__(
        self,
        lm: Backbone,
        prompts: Sequence[Prompt],
        trie: Trie,
        rule: Rule,
        *,
        g: float,
        scores: ItemScores,
    ) -> None:
        super().__init__(lm, prompts, trie, rule)
        numbers = [prompt.query for prompt in prompts if isinstance(prompt, Numbered)]
        assert len(numbers) == len(prompts), "the prompts carry no query numbers"
        known = log_mass(leaf_mass(scores(np.array(numbers, np.int64)), trie), trie)
        self.log_mass_BM = torch.as_tensor(known, device=lm.device)
        self.g = g

    def __call__(
        self, node_BW: Tensor, slot_BW: Tensor, tokens_B: IntArray, kids: Children
    ) -> tuple[Tensor, Tensor]:
        """As the base class, with the other model's part."""
        logp_BC, slot_BW = super().__call__(node_BW, slot_BW, tokens_B, kids)
        above_BC = self.log_mass_BM.gather(1, node_BW).gather(1, kids.beam_BC)
        expert_BC = self.log_mass_BM.gather(1, kids.node_BC) - above_BC
        return self.g * logp_BC + (1 - self.g) * expert_BC, slot_BW
