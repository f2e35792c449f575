"""A control for reweighted masked losses: the focal loss among the valid tokens.

Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, Eq. 4, with MSL's softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from bench.registry import losses
from llmrec.lm.head import Head
from llmrec.losses.base import GRID, Answers
from llmrec.losses.msl import MSLTau, MSLTauConfig, msl


def focal(nll_R: Tensor, *, gamma: float, detach: bool = False) -> Tensor:
    """``(1 - p)^gamma (-log p)`` of each row from ``-log p``, [R]; 0 where p is 1.

    Args:
        nll_R: negative log-likelihood of the label.
        gamma: how much less a probable label counts.
        detach: let no gradient through the weight ``(1 - p)^gamma``.
    """
    # at p = 1 the slope of a root is infinite and the row's gradient would be 0 times that
    weight_R = (-torch.expm1(-nll_R.clamp(min=torch.finfo(nll_R.dtype).tiny))) ** gamma
    return (weight_R.detach() if detach else weight_R) * nll_R


class MSLFocalConfig(MSLTauConfig):
    """Options of the focal control."""

    gamma: NonNegativeFloat = 2.0
    """Exponent of the weight (1 - p)^gamma (2 is the best of the source's); 0 is ``msl_tau``."""
    detach: bool = False
    """Let no gradient through the weight, so that it only scales a row's gradient."""


@losses.register("msl_focal")
class MSLFocal(MSLTau):
    """Masked softmax in which probable labels count less."""

    Config = MSLFocalConfig
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {"gamma": (0.5, 1.0, 2.0), "tau": GRID}

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """See ``focal``; p is the label's share among the valid tokens at tau."""
        c = self.config
        nll_R = msl(hidden_RD, head, answers, self.trie, tau=c.tau)
        return self.leading * focal(nll_R, gamma=c.gamma, detach=c.detach)
