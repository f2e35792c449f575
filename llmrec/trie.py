"""The catalogue's titles as a token trie: which tokens may follow which prefix.

An answer is the title in double quotes, tokenised on its own, and one end token; the end token keeps
every answer from being the beginning of another. Nodes are numbered level by level, edges by (parent,
token), so the child of edge e is node e + 1 and the trie is a few flat arrays. M nodes, E edges.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import DataError
from bench.types import IntArray, Ragged
from llmrec.trie_nodes import TOKEN_BITS, check_answers, grow


@dataclass(frozen=True, eq=False)
class Trie:
    """Valid next tokens for every prefix of an answer (MSL, section 3.2), in compressed sparse rows.

    Attributes:
        token_E: label of each edge, ascending within a node, int32.
        child_E: node an edge leads to, int32.
        indptr_M: the edges of node n are ``indptr_M[n]:indptr_M[n + 1]``, int64 [M + 1]; node 0 is the root.
        leaf_M: leaf number of a node, -1 for inner nodes, int32. Leaves are numbered in the order of
            their smallest item id.
        leaf_items: leaf -> item ids, ascending; more than one where titles are equal.
        answer: leaf -> tokens, end token included.
        path: leaf -> node at which each token of ``answer`` is chosen; the first is the root.
        leaf_of_item_N: item id -> leaf, -1 for padding, int32 [N + 1].
        eos: the end token.
        fingerprint: hash of tokenizer, titles and end token.
    """

    token_E: IntArray
    child_E: IntArray
    indptr_M: IntArray
    leaf_M: IntArray
    leaf_items: Ragged
    answer: Ragged
    path: Ragged
    leaf_of_item_N: IntArray
    eos: int
    fingerprint: str = ""

    @classmethod
    def of(cls, paths: Sequence[Sequence[int]], eos: int, fingerprint: str = "") -> Trie:
        """The trie of the answers of items 1..N.

        Args:
            paths: tokens of each answer, ending in ``eos``; ``paths[0]`` belongs to item 1.
            eos: the end token.
            fingerprint: hash of tokenizer, titles and end token, if known.

        Raises:
            DataError: there are no answers, or one does not end in its only end token.
        """
        answers = Ragged.of(paths)
        check_answers(answers, eos)
        (node_levels, token_levels), path_values, end_P = grow(answers)
        parent_E, token_E = np.concatenate(node_levels), np.concatenate(token_levels)
        n_nodes = len(token_E) + 1
        indptr_M = np.concatenate([[0], np.cumsum(np.bincount(parent_E, minlength=n_nodes))])
        leaf_nodes, first, leaf_P = np.unique(end_P, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        leaf_P = rank[leaf_P]
        leaf_M = np.full(n_nodes, -1, np.int32)
        leaf_M[leaf_nodes[order]] = np.arange(len(order))
        items = np.argsort(leaf_P, kind="stable").astype(np.int32) + 1
        sizes = np.bincount(leaf_P)
        return cls(
            token_E=token_E.astype(np.int32),
            child_E=np.arange(1, n_nodes, dtype=np.int32),
            indptr_M=indptr_M.astype(np.int64),
            leaf_M=leaf_M,
            leaf_items=Ragged(items, np.concatenate([[0], np.cumsum(sizes)])),
            answer=answers.take(first[order]),
            path=Ragged(path_values, answers.offsets).take(first[order]),
            leaf_of_item_N=np.concatenate([[-1], leaf_P]).astype(np.int32),
            eos=int(eos),
            fingerprint=fingerprint,
        )

    @property
    def n_items(self) -> int:
        """N, items without padding."""
        return len(self.leaf_of_item_N) - 1

    @property
    def n_nodes(self) -> int:
        """M, all nodes with root and leaves."""
        return len(self.leaf_M)

    @property
    def n_edges(self) -> int:
        """E, always M - 1."""
        return len(self.token_E)

    @property
    def n_leaves(self) -> int:
        """Number of different answers."""
        return len(self.answer)

    @cached_property
    def fan_out_M(self) -> IntArray:
        """Number of valid tokens at each node, 0 at leaves, int64 [M]."""
        return np.diff(self.indptr_M)

    def children(self, node: int) -> tuple[IntArray, IntArray]:
        """Views of the tokens and of the child nodes below ``node``."""
        edges = slice(self.indptr_M[node], self.indptr_M[node + 1])
        return self.token_E[edges], self.child_E[edges]

    @cached_property
    def key_E(self) -> npt.NDArray[np.int64]:
        """``parent << 32 | token`` of every edge, ascending, int64 [E]."""
        parent_E = np.repeat(np.arange(self.n_nodes, dtype=np.int64), self.fan_out_M)
        return (parent_E << TOKEN_BITS) | self.token_E

    def step(self, node_R: IntArray, token_R: IntArray) -> IntArray:
        """Child reached from each node by each token, -1 where the token is not valid there, int32 [R].

        Args:
            node_R: the nodes.
            token_R: one token for each.
        """
        key_R = (np.asarray(node_R, np.int64) << TOKEN_BITS) | np.asarray(token_R, np.int64)
        edge_R = np.minimum(np.searchsorted(self.key_E, key_R), self.n_edges - 1)
        return np.where(self.key_E[edge_R] == key_R, self.child_E[edge_R], -1).astype(np.int32)

    @cached_property
    def _visits(self) -> tuple[IntArray, IntArray, IntArray]:
        """Every node of every leaf's path, the leaf itself included: nodes, leaves, tokens still to come."""
        full = self.path.append(np.flatnonzero(self.leaf_M >= 0)[self._leaf_order])
        leaf = np.repeat(np.arange(self.n_leaves), full.lengths)
        ahead = np.repeat(full.offsets[1:], full.lengths) - 1 - np.arange(len(full.values))
        return full.values, leaf, ahead

    @cached_property
    def _leaf_order(self) -> IntArray:
        return np.argsort(self.leaf_M[self.leaf_M >= 0])

    @cached_property
    def sole_leaf_M(self) -> IntArray:
        """The only leaf at or below a node, -1 where there are several, int32 [M]."""
        node, leaf, _ = self._visits
        sole_M = np.full(self.n_nodes, -1, np.int32)
        sole_M[node] = leaf
        sole_M[np.bincount(node, minlength=self.n_nodes) > 1] = -1
        return sole_M

    @cached_property
    def tail_length_M(self) -> IntArray:
        """Tokens from a node to its only leaf (0 at a leaf), -1 where there are several, int32 [M]."""
        node, _, ahead = self._visits
        tail_M = np.full(self.n_nodes, -1, np.int32)
        tail_M[node] = ahead
        return np.where(self.sole_leaf_M >= 0, tail_M, -1).astype(np.int32)

    def avt(self, item_W: IntArray | None = None) -> float:
        """Mean number of valid tokens over all answer positions of these targets (MSL, Table 4).

        End tokens and positions with a single choice count. Without ``item_W`` every item counts once.

        Raises:
            DataError: no targets.
        """
        ids = np.arange(1, self.n_items + 1) if item_W is None else np.asarray(item_W)
        if len(ids) == 0:
            raise DataError(
                "the average number of valid tokens needs at least one target, got none"
            )
        assert ids.min() >= 1, f"item ids start at 1, got {ids.min()}"
        leaf_W = self.leaf_of_item_N[ids]
        valid = np.add.reduceat(self.fan_out_M[self.path.values], self.path.offsets[:-1])
        return float(valid[leaf_W].sum() / self.path.lengths[leaf_W].sum())

    def require(self, titles: Sequence[str], tokenizer: Any) -> None:
        """Refuse a trie that belongs to another tokenizer, catalogue or end token.

        Args:
            titles: of the catalogue, by item id.
            tokenizer: the one that prompts are made with.

        Raises:
            DataError: the fingerprints differ.
        """
        wanted = fingerprint(titles, tokenizer)
        if wanted != self.fingerprint:
            raise DataError(
                f"the trie has fingerprint {self.fingerprint!r} but tokenizer, titles and end token "
                f"give {wanted!r}; build it again with for_titles(titles, tokenizer)"
            )


def for_titles(titles: Sequence[str], tokenizer: Any) -> Trie:
    """The trie of a catalogue: tokens of each title in double quotes and the tokenizer's end token.

    Args:
        titles: by item id; ``titles[0]`` is padding and not inserted. An empty title is legal.
        tokenizer: anything called like a Hugging Face tokenizer that has ``eos_token_id``.

    Raises:
        DataError: no items, or no end token.
    """
    if len(titles) < 2:
        raise DataError("the catalogue is empty: a trie needs at least one title after the padding")
    eos = _end_token(tokenizer)
    quoted = [f'"{title}"' for title in titles[1:]]
    paths = [[*ids, eos] for ids in text_tokens(tokenizer, quoted)]
    trie = Trie.of(paths, eos, fingerprint(titles, tokenizer))
    if trie.n_leaves < len(set(quoted)):
        _warn_merged(trie, titles)
    return trie


def text_tokens(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts; what spells a control token (``<|im_end|>``) is read as plain text.

    Args:
        tokenizer: a Hugging Face tokenizer or one called like it.
        texts: any strings.
    """
    # only the tokenizers of Hugging Face would see control tokens in a text
    plain = {"split_special_tokens": True} if hasattr(tokenizer, "backend_tokenizer") else {}
    rows = tokenizer(list(texts), add_special_tokens=False, **plain)["input_ids"]
    return [list(ids) for ids in rows]


def fingerprint(titles: Sequence[str], tokenizer: Any) -> str:
    """Sixteen hex digits that change with the tokenizer, any title or the end token.

    Args:
        titles: by item id.
        tokenizer: as for ``for_titles``.

    Raises:
        DataError: the tokenizer has no end token.
    """
    digest = hashlib.sha256(f"{_end_token(tokenizer)}\n".encode())
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        whole = backend.to_str()  # what precedes the added tokens is padding and truncation state
        digest.update(whole[max(whole.find('"added_tokens"'), 0) :].encode())
    else:
        digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    for title in titles:
        digest.update(title.encode() + b"\0")
    return digest.hexdigest()[:16]


def _end_token(tokenizer: Any) -> int:
    eos = tokenizer.eos_token_id
    if eos is None:
        raise DataError("the tokenizer has no end token; set tokenizer.eos_token before using it")
    return int(eos)


def _warn_merged(trie: Trie, titles: Sequence[str]) -> None:
    for items in trie.leaf_items:
        names = sorted({titles[item] for item in items})
        if len(names) > 1:
            said = (
                f"different titles have the same tokens and become one answer, such as {names[0]!r} "
                f"and {names[1]!r}; a tokenizer that loses no characters would keep them apart"
            )
            return warnings.warn(said, stacklevel=3)
