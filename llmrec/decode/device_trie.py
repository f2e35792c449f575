"""The trie as tensors on the model's device, and the children of many prefixes at once.

A prefix is a trie node; one node more than the trie has stands for "no prefix". A prefix whose next token
is a choice is *asked* of the model, and its *segment* are the tokens below the last asked prefix on its
way: exactly what the model has not computed yet.
M trie nodes and the one more, E edges and one more, A answer tokens, U tokens, B users, W prefixes of a
user, C children of a user's prefixes side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.types import IntArray
from llmrec.decode.trie_index import TrieIndex, index_of

if TYPE_CHECKING:
    from llmrec.decode.rule import Rule
    from llmrec.trie import Trie


@dataclass(frozen=True, eq=False)
class DeviceTrie:
    """The trie under one scoring rule on one device; tensors are int64 where nothing else is said.

    Attributes:
        none: the node that stands for "no prefix"; it has no children and no leaf.
        places: tokens of the longest prefix that is asked.
        fan_M, start_M: number of children, and the first edge.
        leaf_M, sole_M: leaf that ends here; the only leaf at or below; -1 where there is none.
        first_leaf_M, depth_M, branch_M: as in ``TrieIndex``.
        weight_M: weight of the log-probability of the token into each node, float64; None where all are 1.
        divisor_M: what the score of an answer that ends here is divided by, float64; None for 1.
        best_divisor_M: the one that helps most among the answers at or below; None for 1.
        asked_M: 1 where the next token is asked of the model, else 0.
        above_M: the last asked node, or the root, above; what the segment begins after.
        segment_M: tokens of the segment.
        text_M: where in ``answer_A`` the segment begins.
        need_M3: tokens of the segment, children, and 1 for a prefix, by node.
        token_E, child_E: of each edge; the last edge leads from and to ``none``.
        column_E: place of the token in ``table_U``.
        table_U: tokens that are a choice somewhere, ascending.
        answer_A: tokens of all answers end to end.
    """

    none: int
    places: int
    fan_M: Tensor
    start_M: Tensor
    leaf_M: Tensor
    sole_M: Tensor
    first_leaf_M: Tensor
    depth_M: Tensor
    branch_M: Tensor
    weight_M: Tensor | None
    divisor_M: Tensor | None
    best_divisor_M: Tensor | None
    asked_M: Tensor
    above_M: Tensor
    segment_M: Tensor
    text_M: Tensor
    need_M3: Tensor
    token_E: Tensor
    child_E: Tensor
    column_E: Tensor
    table_U: Tensor
    answer_A: Tensor


def on_device(trie: Trie, rule: Rule, device: torch.device) -> DeviceTrie:
    """The trie on a device, made once.

    Args:
        trie: the catalogue.
        rule: the scoring rule; every next token that can move the sum is asked of the model.
        device: of the model.
    """
    return _made(trie, replace(rule, tau=1.0, prune="sum"), device)  # the trie depends on neither


@lru_cache(maxsize=8)
def _made(trie: Trie, rule: Rule, device: torch.device) -> DeviceTrie:
    index = index_of(trie)
    fan = trie.fan_out_M
    asked = fan > (1 if rule.forced_is_free else 0)
    above = _above(index, asked)
    segment = np.where(asked, index.depth_M - index.depth_M[above], 0)
    text = trie.answer.offsets[index.first_leaf_M] + index.depth_M - segment
    choice_E = np.repeat(asked, fan)
    table = np.unique(trie.token_E[choice_E])
    column = np.where(choice_E, np.searchsorted(table, trie.token_E), 0)

    def put(values: Any, last: int) -> Tensor:
        return torch.as_tensor(np.append(values, last).astype(np.int64), device=device)

    by_node = {
        "fan_M": put(fan, 0),
        "start_M": put(trie.indptr_M[:-1], trie.n_edges),
        "leaf_M": put(trie.leaf_M, -1),
        "sole_M": put(trie.sole_leaf_M, -1),
        "first_leaf_M": put(index.first_leaf_M, trie.n_leaves),
        "depth_M": put(index.depth_M, 0),
        "branch_M": put(index.branch_M, trie.n_nodes),
        "asked_M": put(asked, 0),
        "above_M": put(above, 0),
        "segment_M": put(segment, 0),
        "text_M": put(text, 0),
    }
    exists = put(np.ones(trie.n_nodes), 0)
    weight_M, divisor_M, best_divisor_M = _weights(trie, rule, device)
    return DeviceTrie(
        none=trie.n_nodes,
        places=int(index.depth_M[asked].max(initial=0)),
        need_M3=torch.stack([by_node["segment_M"], by_node["fan_M"], exists], 1),
        token_E=put(trie.token_E, 0),
        child_E=put(trie.child_E, trie.n_nodes),
        column_E=put(column, 0),
        table_U=torch.as_tensor(table.astype(np.int64), device=device),
        answer_A=torch.as_tensor(trie.answer.values.astype(np.int64), device=device),
        weight_M=weight_M,
        divisor_M=divisor_M,
        best_divisor_M=best_divisor_M,
        **by_node,
    )


def _weights(
    trie: Trie, rule: Rule, device: torch.device
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """``weight_M``, ``divisor_M`` and ``best_divisor_M`` of ``DeviceTrie``."""
    index = index_of(trie)
    length_M = rule.lengths(np.maximum(trie.fan_out_M, 1))[np.maximum(index.parent_M, 0)]
    length_M[0] = 0
    total_M = index.summed(length_M)
    # as a sum only falls, a longer answer can still gain by the division
    least_M, most_M = index.extremes(total_M)
    best_M = most_M if rule.length_penalty > 0 else least_M

    def put(values: Any) -> Tensor:
        return torch.as_tensor(np.append(values, 1.0), dtype=torch.float64, device=device)

    def divisor(length: Any) -> Tensor | None:
        # without any length a score is 0
        power = put(length) ** rule.length_penalty
        return power.masked_fill(put(length) == 0, torch.inf) if rule.length_penalty else None

    weighted = rule.a == "length" and rule.length != "tokens"
    return put(length_M) if weighted else None, divisor(total_M), divisor(best_M)


def _above(index: TrieIndex, asked_M: Any) -> IntArray:
    """The last asked node, or the root, above each node; the root for itself."""
    above = np.maximum(index.parent_M, 0)
    free = ~asked_M
    free[0] = False
    while (skip := free[above]).any():
        above[skip] = above[above[skip]]
    return above


@dataclass(frozen=True, eq=False)
class Children:
    """All children of a user's prefixes side by side, [B, C].

    Attributes:
        beam_BC: the prefix, by its column.
        edge_BC: the edge to the child.
        node_BC: the child; ``none`` where a user has fewer than C.
    """

    beam_BC: Tensor
    edge_BC: Tensor
    node_BC: Tensor


def children(trie: DeviceTrie, node_BW: Tensor, width: int) -> Children:
    """The children of several prefixes of each user.

    Args:
        trie: the catalogue.
        node_BW: the prefixes, ``trie.none`` for none.
        width: C, at least the number of children of any user.
    """
    fan_BW = trie.fan_M[node_BW]
    end_BW = fan_BW.cumsum(1)
    place_BC = torch.arange(width, device=node_BW.device).expand(len(node_BW), width).contiguous()
    beam_BC = torch.searchsorted(end_BW, place_BC, right=True)
    beam_BC = beam_BC.clamp(max=node_BW.shape[1] - 1)
    first_BW = trie.start_M[node_BW] + fan_BW - end_BW
    edge_BC = first_BW.gather(1, beam_BC) + place_BC
    edge_BC = edge_BC.masked_fill(place_BC >= end_BW[:, -1:], len(trie.child_E) - 1)
    return Children(beam_BC, edge_BC, trie.child_E[edge_BC])


def needed(trie: DeviceTrie, node_BW: Tensor, *more_B: Tensor) -> IntArray:
    """What it takes to extend these prefixes, by user; the one read of a step.

    Args:
        trie: the catalogue.
        node_BW: the prefixes, ``trie.none`` for none.
        more_B: further integers to read along.

    Returns:
        New tokens, children, prefixes and what else was asked for, int64 [B, 3 + more].
    """
    need_B3 = trie.need_M3[node_BW].sum(1)
    if more_B:
        need_B3 = torch.cat([need_B3, torch.stack(more_B, 1)], 1)
    return need_B3.cpu().numpy()
