"""Log-probabilities of the next tokens, and the scores of a whole catalogue.

``full``: log-probability over the whole vocabulary, invalid tokens dropped afterwards (the released
code). ``valid``: log-probability among the valid tokens only, the distribution that MSL trains
(equation 5). A token whose log-probability cannot move the sum needs no forward pass.
Q queries, B users, W prefixes of a user, C their children side by side, U tokens of the head in use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.types import IntArray
from llmrec.decode.base import evaluating
from llmrec.decode.cross_tree import tree_of
from llmrec.decode.device_trie import Children, children, needed, on_device
from llmrec.decode.rule import Rule, Scores
from llmrec.decode.trie_index import index_of

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.lm.head import Head
    from llmrec.prompt import Prompt
    from llmrec.trie import Trie

Follow = Callable[[Tensor, Tensor, IntArray, Children], tuple[Tensor, Tensor]]
# Two evaluations of one score differ by rounding; a proof has to clear it by a margin.
SLACK = {torch.float64: 1e-6, torch.float32: 1e-3}
SLACK_HALF = 5e-2


def slack(lm: Backbone) -> float:
    """Margin by which a proof has to hold, in score units; the coarsest layer decides.

    Quantised layers compute in half precision, whatever the embedding was cast to for training.
    """
    kinds = {weight.dtype for weight in lm.causal.parameters()}
    if getattr(lm.causal, "is_quantized", False) or not kinds <= SLACK.keys():
        return SLACK_HALF
    return max(SLACK[kind] for kind in kinds)


class Continuations:
    """Log-probabilities of what may follow the prefixes of a batch of users.

    Args:
        lm: the model, in evaluation mode.
        prompts: one per user.
        trie: the catalogue.
        rule: the scoring rule.
    """

    def __init__(self, lm: Backbone, prompts: Sequence[Prompt], trie: Trie, rule: Rule) -> None:
        self.trie = on_device(trie, rule, lm.device)
        self.rule, self.head = rule, lm.head
        self.tree = tree_of(lm, prompts, self.trie)
        self.table: Head | None = None

    @property
    def tokens(self) -> int:
        """Tree tokens computed so far, of all users."""
        return self.tree.tokens

    @torch.no_grad()
    def __call__(
        self, node_BW: Tensor, slot_BW: Tensor, tokens_B: IntArray, kids: Children
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the last token of each child.

        Args:
            node_BW: the prefixes, ``trie.none`` for none.
            slot_BW: what an earlier call gave for the prefix that each continues, 0 for none.
            tokens_B: new tokens of each user, from ``needed``.
            kids: the children of the prefixes.

        Returns:
            Log-probabilities, float64 [B, C], of any value where there is no child; slots, [B, W].
        """
        hidden_BWD, slot_BW = self.tree.extend(node_BW, slot_BW, tokens_B)
        asked_BW = self.trie.asked_M[node_BW] == 1
        asked_BC = asked_BW.gather(1, kids.beam_BC) & (kids.node_BC != self.trie.none)
        if not self.tree.costs.reads:
            return self._of_asked(hidden_BWD, asked_BW, kids, asked_BC), slot_BW
        head, column_BC = self._columns(kids)
        n_users, width = node_BW.shape
        users = max(1, self.tree.costs.logits // (width * head.vocabulary))
        parts = []
        for low in range(0, n_users, users):
            now = slice(low, low + users)
            where = (kids.beam_BC[now], column_BC[now], asked_BC[now])
            parts.append(self._part(head, hidden_BWD[now], *where))
        logp_BC = parts[0] if len(parts) == 1 else torch.cat(parts)
        # without an alternative a token has probability 1, exactly
        return torch.where(asked_BC, logp_BC, 0).double(), slot_BW

    def _of_asked(
        self, hidden_BWD: Tensor, asked_BW: Tensor, kids: Children, asked_BC: Tensor
    ) -> Tensor:
        """The log-probabilities from rows and columns that are asked alone.

        They are fewer than all prefixes and than all tokens of the trie, but a GPU would have to wait for
        their numbers.
        """
        logp_BC = torch.zeros(asked_BC.shape, dtype=torch.float64)
        user_C, at_C = asked_BC.nonzero(as_tuple=True)
        if not len(user_C):
            return logp_BC
        hidden_RD, edge_C = hidden_BWD[asked_BW], kids.edge_BC[user_C, at_C]
        number_BW = asked_BW.flatten().cumsum(0).view(asked_BW.shape) - 1
        row_C = number_BW[user_C, kids.beam_BC[user_C, at_C]]
        head, column_C = self.head, self.trie.token_E[edge_C]
        if self.rule.space == "valid":
            column_C = self.trie.column_E[edge_C]
            used_U = torch.zeros(len(self.trie.table_U), dtype=torch.bool).index_fill_(
                0, column_C, 1
            )
            head, column_C = head.rows(self.trie.table_U[used_U]), (used_U.cumsum(0) - 1)[column_C]
        most = max(1, self.tree.costs.logits // head.vocabulary)
        parts = []
        for low in range(0, len(hidden_RD), most):
            now = slice(*torch.searchsorted(row_C, torch.tensor([low, low + most])).tolist())
            parts.append(
                self._rows(head, hidden_RD[low : low + most], row_C[now] - low, column_C[now])
            )
        logp_BC[user_C, at_C] = torch.cat(parts).double()
        return logp_BC

    def _rows(self, head: Head, hidden_RD: Tensor, row_C: Tensor, column_C: Tensor) -> Tensor:
        logits_RU = head.logits(hidden_RD) / self.rule.tau
        if self.rule.space == "full":
            return logits_RU[row_C, column_C] - logits_RU.logsumexp(1)[row_C]
        barred_RU = torch.ones(logits_RU.shape, dtype=torch.bool)
        barred_RU[row_C, column_C] = False
        return logits_RU.masked_fill_(barred_RU, -torch.inf).log_softmax(1)[row_C, column_C]

    def _columns(self, kids: Children) -> tuple[Head, Tensor]:
        """A head of tokens that are a choice, and the column of each child's token."""
        if self.rule.space == "full":
            return self.head, self.trie.token_E[kids.edge_BC]
        self.table = self.table or self.head.rows(self.trie.table_U)
        return self.table, self.trie.column_E[kids.edge_BC]

    def _part(
        self, head: Head, hidden_BWD: Tensor, beam_BC: Tensor, column_BC: Tensor, asked_BC: Tensor
    ) -> Tensor:
        n_users, width, size = hidden_BWD.shape
        logits_RU = head.logits(hidden_BWD.reshape(-1, size)) / self.rule.tau
        cell_BC = beam_BC * head.vocabulary + column_BC
        if self.rule.space == "full":
            logits_BX = logits_RU.view(n_users, -1)
            total_BW = logits_RU.logsumexp(1).view(n_users, width)
            return logits_BX.gather(1, cell_BC) - total_BW.gather(1, beam_BC)
        n_cells = width * head.vocabulary
        barred_BX = torch.ones(n_users, n_cells + 1, dtype=torch.bool, device=cell_BC.device)
        barred_BX.scatter_(1, torch.where(asked_BC, cell_BC, n_cells), False)
        barred_RU = barred_BX[:, :n_cells].reshape(logits_RU.shape)
        logp_RU = logits_RU.masked_fill_(barred_RU, -torch.inf).log_softmax(1)
        return logp_RU.view(n_users, n_cells).gather(1, cell_BC)


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
    known = on_device(trie, rule, torch.device("cpu"))
    weight_M = 1.0 if known.weight_M is None else known.weight_M[:-1].numpy()
    node_L = np.empty(trie.n_leaves, np.int64)
    ends = np.flatnonzero(trie.leaf_M >= 0)
    node_L[trie.leaf_M[ends]] = ends
    score_QL = np.empty((len(prompts), trie.n_leaves))
    for query, prompt in enumerate(prompts):
        with evaluating(lm):
            logp_M = _into_nodes(Continuations(lm, [prompt], trie, rule))
        score_L = torch.from_numpy(index_of(trie).summed(weight_M * logp_M)[node_L])
        score_QL[query] = rule.final(score_L, torch.from_numpy(node_L), known).numpy()
    return score_QL


def _into_nodes(follow: Continuations) -> Scores:
    """Log-probability of the token into every node for a single user, [M]."""
    trie = follow.trie
    logp_M = torch.zeros(trie.none + 1, dtype=torch.float64, device=trie.fan_M.device)
    slot_M = torch.zeros_like(trie.fan_M)
    most = max(1, follow.tree.costs.logits // len(follow.head.weight_VD))
    todo = trie.asked_M == 1
    known = torch.zeros_like(todo)
    known[0] = True
    while len(ready_W := (todo & known[trie.above_M]).nonzero()[:, 0]):
        for node_W in ready_W.split(most):
            node_1W = node_W[None]
            need_13 = needed(trie, node_1W)
            kids = children(trie, node_1W, int(need_13[0, 1]))
            slot_1W = slot_M[trie.above_M[node_1W]]
            logp_1C, slot_1W = follow(node_1W, slot_1W, need_13[:, 0], kids)
            logp_M[kids.node_BC] = logp_1C
            slot_M[node_1W] = slot_1W
        todo[ready_W], known[ready_W] = False, True
    return logp_M[:-1].cpu().numpy()
