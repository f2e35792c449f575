"""The numbering of a trie's nodes, from the tokens of its answers."""

from __future__ import annotations

import numpy as np

from bench.errors import DataError
from bench.types import IntArray, Ragged

TOKEN_BITS = 32  # an edge's key is parent << TOKEN_BITS | token
Levels = tuple[list[IntArray], list[IntArray]]


def check_answers(answers: Ragged, eos: int) -> None:
    """Check that every answer ends in the end token and holds it nowhere else.

    Args:
        answers: tokens of each item's answer; the first belongs to item 1.
        eos: the end token.

    Raises:
        DataError: there is no answer, or one that does not; names the item.
    """
    if len(answers) == 0:
        raise DataError("the catalogue is empty: a trie needs at least one answer")
    n_end = np.zeros(len(answers), np.int64)
    np.add.at(n_end, np.repeat(np.arange(len(answers)), answers.lengths), answers.values == eos)
    wrong = np.flatnonzero((n_end != 1) | (answers.last != eos) | (answers.lengths == 0))
    if len(wrong):
        raise DataError(
            f"the answer of item {wrong[0] + 1} is {answers[int(wrong[0])].tolist()}; it must end in "
            f"the end token {eos} and hold it nowhere else (does the title spell a special token?)"
        )


def grow(answers: Ragged) -> tuple[Levels, IntArray, IntArray]:
    """Number the nodes of a trie level by level; the root is 0.

    Returns:
        Parents and tokens of the edges, one array a level; the node at which each answer token is chosen,
        in the order of ``answers.values``; the node at which each answer ends.
    """
    values, start_P, length_P = answers.values, answers.offsets[:-1], answers.lengths
    path_values = np.zeros(len(values), np.int32)
    end_P = np.zeros(len(answers), np.int64)
    alive, node, n_nodes = np.arange(len(answers)), np.zeros(len(answers), np.int64), 1
    parents: list[IntArray] = []
    tokens: list[IntArray] = []
    for depth in range(int(length_P.max())):
        at = start_P[alive] + depth
        path_values[at] = node
        # answers that share a prefix have the same (node, token) here and so become one child
        key, edge = np.unique((node << TOKEN_BITS) | values[at], return_inverse=True)
        parents.append(key >> TOKEN_BITS)
        tokens.append(key & ((1 << TOKEN_BITS) - 1))
        node = n_nodes + edge
        n_nodes += len(key)
        end_P[alive] = node
        more = length_P[alive] > depth + 1
        alive, node = alive[more], node[more]
    return (parents, tokens), path_values, end_P
