"""A control for masked losses: label smoothing among the valid tokens, never over the vocabulary.

Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7,
with MSL's softmax. A row with one valid token stays 0, as smoothing has nowhere to put its share.
M trie nodes, E edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from bench.registry import losses
from bench.types import FloatArray
from llmrec.lm.head import Head
from llmrec.losses._masked import Smoothing, Softmax, masked_nll
from llmrec.losses.base import GRID, Answers
from llmrec.losses.msl import MSLTau, MSLTauConfig
from llmrec.trie import Trie


def shares_of_edges(trie: Trie, over: Literal["uniform", "titles"]) -> FloatArray:
    """How a node's share is spread over its tokens, float64 [E]; sums to 1 over the edges of a node.

    Args:
        trie: the catalogue.
        over: ``uniform``, or in proportion to the ``titles`` below each token.
    """
    parent_E = np.repeat(np.arange(trie.n_nodes), trie.fan_out_M)
    if over == "uniform":
        return 1.0 / trie.fan_out_M[parent_E].astype(np.float64)
    leaves_M = np.bincount(trie.path.values, minlength=trie.n_nodes) + (trie.leaf_M >= 0)
    return leaves_M[trie.child_E] / leaves_M[parent_E].astype(np.float64)


class MSLSmoothConfig(MSLTauConfig):
    """Options of label smoothing."""

    smoothing: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the target that is spread over the valid tokens (0.1 is the source's); 0 is ``msl_tau``."""
    over: Literal["uniform", "titles"] = "uniform"
    """Spread it evenly over the valid tokens, or in proportion to the titles below each."""


@losses.register("msl_smooth")
class MSLSmooth(MSLTau):
    """Masked softmax with part of the target spread over the valid tokens."""

    Config = MSLSmoothConfig
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {"smoothing": (0.01, 0.05, 0.1), "tau": GRID}

    def __init__(self, config: Any, trie: Trie, *, vocabulary: int, avt: float) -> None:
        """As every loss."""
        super().__init__(config, trie, vocabulary=vocabulary, avt=avt)
        weight_E = torch.from_numpy(shares_of_edges(trie, self.config.over))
        self._spread = Smoothing(self.config.smoothing, weight_E)

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """``-(1 - e) log P(y) - e sum_z v(z) log P(z)`` over the valid tokens of each row."""
        how = Softmax(self.config.tau, smoothing=self._spread)
        return self.leading * masked_nll(hidden_RD, head, answers, self.trie, how).nll_R
