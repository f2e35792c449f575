"""A control for reweighted masked losses: rare titles count more, by their number of training rows.

Sources: inverse popularity ``n^-power`` (inverse propensity weighting, Schnabel et al., ICML 2016), and the
class-balanced weight ``(1 - beta) / (1 - beta^n)`` of Cui et al., "Class-Balanced Loss Based on Effective
Number of Samples", CVPR 2019. Weights are divided by their mean over the training rows, then capped.
Titles that read alike are one title. C titles, W training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from bench.registry import losses
from bench.types import FloatArray, IntArray
from llmrec.lm.head import Head
from llmrec.losses.base import GRID, Answers
from llmrec.losses.msl import MSLTau, MSLTauConfig
from llmrec.trie import Trie

CAP = 10.0  # of a weight, whose mean is 1 before the cap


class MSLPriorConfig(MSLTauConfig):
    """Options of the weight by popularity."""

    weighting: Literal["power", "balanced"] = "power"
    """``n^-power``, or ``(1 - beta) / (1 - beta^n)``, n being the training rows with that target."""
    power: NonNegativeFloat = 0.5
    """Exponent under ``power``; 0 is ``msl_tau``."""
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Discount under ``balanced``; 0 is ``msl_tau``."""


def prior_weight(rows_C: IntArray, config: MSLPriorConfig) -> FloatArray:
    """The weight of each title, float64 [C]; its mean over the training rows is 1 before the cap of 10.

    Args:
        rows_C: training rows with each title as target; a title without one is weighted as if it had one.
        config: the formula and its option.
    """
    n_C = np.maximum(rows_C, 1).astype(np.float64)
    if config.weighting == "power":
        raw_C = n_C**-config.power
    else:
        raw_C = (1 - config.beta) / (1 - config.beta**n_C)
    mean = float(raw_C @ rows_C) / max(int(rows_C.sum()), 1)
    return np.minimum(raw_C / mean if mean else raw_C, CAP)


@losses.register("msl_prior")
class MSLPrior(MSLTau):
    """Masked softmax whose rows are weighted by how rare their title is among the training targets."""

    Config = MSLPriorConfig
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {"power": (0.25, 0.5, 1.0), "tau": GRID}

    def __init__(self, config: Any, trie: Trie, *, vocabulary: int, avt: float) -> None:
        """As every loss; all titles weigh alike until ``observe_targets``."""
        super().__init__(config, trie, vocabulary=vocabulary, avt=avt)
        self.weight_C = torch.ones(trie.n_leaves, dtype=torch.float64)
        self._mean = self._capped = 0.0

    def observe_targets(self, leaf_W: IntArray) -> None:
        """Set each title's weight by its number of training rows.

        Args:
            leaf_W: title of each training row's target.
        """
        weight_C = prior_weight(np.bincount(leaf_W, minlength=self.trie.n_leaves), self.config)
        self._mean = float(weight_C[leaf_W].mean())
        self._capped = float((weight_C[leaf_W] == CAP).mean())
        self.weight_C = torch.from_numpy(weight_C)

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """The title's weight times the masked negative log-likelihood of each row."""
        nll_R = super().per_row(hidden_RD, head, answers)
        return self.weight_C.to(nll_R.device, nll_R.dtype)[answers.leaf_R] * nll_R

    def facts(self) -> dict[str, float]:
        """Mean weight of the training rows, and the share of rows whose weight is at the cap."""
        return {"prior_weight": self._mean, "prior_capped": self._capped}
