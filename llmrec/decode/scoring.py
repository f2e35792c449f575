"""What a path through the trie is worth: the scoring rule, and log-probabilities of the next tokens.

``full``: log-probability over the whole vocabulary, invalid tokens dropped afterwards (the released
code). ``valid``: log-probability among the valid tokens only, the distribution that MSL trains
(equation 5); a token without alternative costs nothing and needs no forward pass.
Q queries, R rows (a user at a trie node), C their children end to end, U distinct valid tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import PositiveFloat
from torch import Tensor

from bench.errors import ConfigError
from bench.types import BoolArray, IntArray
from llmrec.decode.base import evaluating
from llmrec.decode.tree import Tree
from llmrec.decode.trie_index import TrieIndex

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

Space = Literal["full", "valid"]
Tau = PositiveFloat | Literal["train"]
OF_TRAINING: Literal["train"] = "train"
Scores = npt.NDArray[np.float64]
CELLS = 2**24  # logits held at once
# Two evaluations of one score differ by rounding; a proof has to clear it by a margin.
SLACK = {torch.float64: 1e-6, torch.float32: 1e-3}
SLACK_HALF = 5e-2


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``sum of log P(token | prefix) / length ** length_penalty``, end token counted.

    Attributes:
        space: ``full`` or ``valid``.
        length_penalty: 0 for the log-probability of the answer, 1 for its mean per token.
        tau: temperature under both softmaxes.
    """

    space: Space = "valid"
    length_penalty: float = 0.0
    tau: float = 1.0

    @property
    def words(self) -> str:
        """The rule in a few words."""
        space = "all tokens" if self.space == "full" else "valid tokens"
        return (
            f"sum of log-probabilities over {space} / length^{self.length_penalty:g}, "
            f"tau {self.tau:g}"
        )

    def final(self, score: Scores, length: IntArray) -> Scores:
        """Scores of complete answers.

        Args:
            score: summed log-probability of each answer.
            length: its number of tokens, the end token included.
        """
        if self.length_penalty == 0:
            return score
        return score / np.maximum(length, 1).astype(np.float64) ** self.length_penalty

    def bound(self, score: Scores, node: IntArray, index: TrieIndex) -> Scores:
        """The best final score that any answer below these nodes can still reach.

        Log-probabilities are never positive, so the sum can only fall from here; the length that helps
        most is assumed.

        Args:
            score: summed log-probability up to each node.
            node: the nodes.
            index: lengths of the answers below each node.
        """
        longer_is_better = self.length_penalty > 0
        length = index.longest_M[node] if longer_is_better else index.shortest_M[node]
        return self.final(score, length)

    def free(self, trie: Trie, node: IntArray) -> BoolArray:
        """Which nodes have a single continuation that costs nothing under this rule.

        Args:
            trie: the catalogue.
            node: the nodes.
        """
        if self.space == "full":
            return np.zeros(len(node), bool)
        return trie.fan_out_M[node] == 1


def temperature(tau: Tau) -> float:
    """The temperature that an option names.

    Raises:
        ConfigError: it is ``train``, which only a trained method can replace by a number.
    """
    if tau == OF_TRAINING:
        raise ConfigError(
            "tau is 'train', the temperature of a method's training, which is not known here; "
            "give a number"
        )
    return tau


def slack(lm: Backbone) -> float:
    """Margin by which a proof has to hold, in score units; the coarsest layer decides.

    Quantised layers compute in half precision, whatever the embedding was cast to for training.
    """
    kinds = {weight.dtype for weight in lm.causal.parameters()}
    if getattr(lm.causal, "is_quantized", False) or not kinds <= SLACK.keys():
        return SLACK_HALF
    return max(SLACK[kind] for kind in kinds)


def children(trie: Trie, node_R: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """The children of several nodes, concatenated.

    Args:
        trie: the catalogue.
        node_R: the nodes.

    Returns:
        For each child the row it belongs to, its token and its node, int64 [C] each.
    """
    count_R = trie.fan_out_M[node_R]
    row_C = np.repeat(np.arange(len(node_R)), count_R)
    within_C = np.arange(len(row_C)) - np.repeat(np.cumsum(count_R) - count_R, count_R)
    edge_C = trie.indptr_M[node_R][row_C] + within_C
    return row_C, trie.token_E[edge_C].astype(np.int64), trie.child_E[edge_C].astype(np.int64)


def step(
    tree: Tree, rule: Rule, user_R: IntArray, node_R: IntArray
) -> tuple[IntArray, IntArray, Scores]:
    """Log-probabilities of every valid continuation of several prefixes.

    Args:
        tree: computes the hidden state of each prefix, unless it is known.
        rule: the scoring rule.
        user_R: user of each prefix.
        node_R: trie node that each prefix ends at.

    Returns:
        For each child the row it belongs to, its node, and the log-probability of its token, [C] each.
    """
    row_C, token_C, child_C = children(tree.trie, node_R)
    logp_C = np.zeros(len(row_C))
    asked_R = ~rule.free(tree.trie, node_R)
    if asked_R.any():
        hidden_RD = tree.hidden(user_R[asked_R], node_R[asked_R])
        asked_C = asked_R[row_C]
        row = (np.cumsum(asked_R) - 1)[row_C[asked_C]]
        logp_C[asked_C] = log_probs(tree.lm, rule, hidden_RD, row, token_C[asked_C])
    return row_C, child_C, logp_C


def log_probs(
    lm: Backbone, rule: Rule, hidden_RD: Tensor, row_C: IntArray, token_C: IntArray
) -> Scores:
    """Log-probabilities of given tokens after given hidden states, float64 [C].

    Args:
        lm: its head gives the logits.
        rule: which tokens share the softmax, and its temperature.
        hidden_RD: final hidden states.
        row_C: row of ``hidden_RD`` that each token follows, ascending.
        token_C: the tokens; in ``valid`` space those of a row must be all its valid tokens.
    """
    widest = lm.head.vocabulary if rule.space == "full" else len(np.unique(token_C))
    rows = max(1, CELLS // max(widest, 1))
    score = _among_all if rule.space == "full" else _among_valid
    logp_C = np.empty(len(row_C))
    for start in range(0, len(hidden_RD), rows):
        low, high = np.searchsorted(row_C, [start, start + rows])
        part = score(
            lm,
            hidden_RD[start : start + rows],
            row_C[low:high] - start,
            token_C[low:high],
            rule.tau,
        )
        logp_C[low:high] = part.double().cpu().numpy()
    return logp_C


def _among_all(
    lm: Backbone, hidden_RD: Tensor, row_C: IntArray, token_C: IntArray, tau: float
) -> Tensor:
    logits_RV = lm.head.logits(hidden_RD) / tau
    row = torch.as_tensor(row_C, device=logits_RV.device)
    token = torch.as_tensor(token_C, device=logits_RV.device)
    return logits_RV[row, token] - logits_RV.logsumexp(1)[row]


def _among_valid(
    lm: Backbone, hidden_RD: Tensor, row_C: IntArray, token_C: IntArray, tau: float
) -> Tensor:
    device = hidden_RD.device
    # the head is read only for tokens that are valid somewhere in the batch, not for the vocabulary
    token_U, column_C = np.unique(token_C, return_inverse=True)
    logits_RU = lm.head.rows(torch.as_tensor(token_U, device=device)).logits(hidden_RD) / tau
    row = torch.as_tensor(row_C, device=device)
    column = torch.as_tensor(column_C.reshape(-1), device=device)
    invalid_RU = torch.ones(logits_RU.shape, dtype=torch.bool, device=device)
    invalid_RU[row, column] = False
    return logits_RU.masked_fill_(invalid_RU, -torch.inf).log_softmax(1)[row, column]


def score_all(
    lm: Backbone, prompts: Sequence[Prompt], trie: Trie, rule: Rule | None = None
) -> Scores:
    """Scores of every answer of the catalogue, by one pass over the whole trie, float64 [Q, leaves].

    Costs about as much as transformers' beam search with ten beams in ``valid`` space; in ``full`` space
    every token of every title has to be computed, which is for small tries.

    Args:
        lm: the model.
        prompts: one per query.
        trie: the catalogue.
        rule: the scoring rule; by default that of MSL, the sum of log-probabilities among valid tokens.
    """
    rule = rule or Rule()
    score_QL = np.empty((len(prompts), trie.n_leaves))
    node_R = np.flatnonzero(trie.fan_out_M > 0)
    user_R = np.zeros(len(node_R), np.int64)
    for query, prompt in enumerate(prompts):
        with evaluating(lm):
            tree = Tree(lm, [prompt], trie)
            _, child_C, logp_C = step(tree, rule, user_R, node_R)
        logp_M = np.zeros(trie.n_nodes)
        logp_M[child_C] = logp_C
        score_QL[query] = _along_paths(trie, logp_M, tree.index)
    return np.stack([rule.final(score_L, trie.answer.lengths) for score_L in score_QL])


def _along_paths(trie: Trie, logp_M: Scores, index: TrieIndex) -> Scores:
    """Sum of the node values from the root to each leaf, [leaves]."""
    total_M = logp_M.copy()
    order = np.argsort(index.depth_M, kind="stable")
    starts = np.searchsorted(index.depth_M[order], np.arange(index.depth_M.max() + 2))
    for low, high in pairwise(starts[1:]):
        level = order[low:high]
        total_M[level] += total_M[index.parent_M[level]]
    ends = np.flatnonzero(trie.leaf_M >= 0)
    score_L = np.empty(trie.n_leaves)
    score_L[trie.leaf_M[ends]] = total_M[ends]
    return score_L
