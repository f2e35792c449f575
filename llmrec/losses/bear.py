"""BEAR: MSL whose rows are weighted by how safely a beam search would keep the label (WWW 2026).

Source: "BEAR: Towards Beam-Search-Aware Optimization for Recommendation with Large Language Models", its
released code; the text of the paper could not be read. A step of beam search keeps the ``top`` most probable
tokens of a prefix, so the margin of the label above the last of them, ``M = (log P(y) - log q) / xi``, says
whether the label would be pruned there. The row's weight is ``w = 1 + lam g(M)``, without a gradient:

    released   g = s(M)            the released code: least where the label is about to be pruned
    border     g = 4 s(M) s(-M)    largest at the edge of the beam
    at_risk    g = s(-M)           largest where the label would be pruned, as the name promises

with s the sigmoid. So the gradient of a row is that of ``msl_tau`` times w, and lam = 0 is ``msl_tau``.

Departures from the released code: with fewer than ``top`` valid tokens q is the smallest probability among
them, also where that underflows there; weights are normalised over the whole optimizer step, not within each
micro-batch of each process; the loss has MSL's leading tau (the release trains Toy at tau = 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from bench.config import Config
from bench.registry import losses
from llmrec.lm.head import Head
from llmrec.losses._masked import NEVER, Softmax, masked_nll
from llmrec.losses._observing import Observing
from llmrec.losses._valid import Block
from llmrec.losses.base import GRID, Answers, TokenConfig
from llmrec.trie import Trie

Form = Literal["released", "border", "at_risk"]
SUMS = ("rows", "weight", "wide", "below")


def bear_weight(margin_R: Tensor, *, lam: float, form: Form = "released") -> Tensor:
    """``1 + lam g(M)`` of each row, [R].

    Args:
        margin_R: M, how far the label's log-probability is above that of the last token kept, over xi.
        lam: how much of the weight depends on M.
        form: the function g.
    """
    if form == "released":
        return 1 + lam * margin_R.sigmoid()
    if form == "at_risk":
        return 1 + lam * (-margin_R).sigmoid()
    return 1 + 4 * lam * margin_R.sigmoid() * (-margin_R).sigmoid()


def above_last_kept(logits_RU: Tensor, block: Block, *, top: int) -> Tensor:
    """Label logit minus the ``top``-th largest valid logit, the smallest where there are fewer, [R, 1].

    Args:
        logits_RU: of the union of the valid tokens of these rows.
        block: says which are valid in each.
        top: tokens that a beam search keeps of a prefix.
    """
    label_R1 = logits_RU.gather(1, block.label_R[:, None])
    kept = min(top, logits_RU.shape[1])
    if (invalid_RU := block.invalid_RU) is None:
        return label_R1 - logits_RU.topk(kept, 1).values[:, -1:]
    largest_RT = logits_RU.masked_fill(invalid_RU, NEVER).topk(kept, 1).values
    last_R1 = (~invalid_RU).sum(1, keepdim=True).clamp(max=kept) - 1
    return label_R1 - largest_RT.gather(1, last_R1)


class BEARConfig(TokenConfig):
    """Options of BEAR; lam and xi are those of the authors' only published command (Toy)."""

    form: Form = "released"
    """How the weight depends on the margin: as in the released code, largest at the edge of the beam, or
    largest where the label is at risk."""
    lam: NonNegativeFloat = 0.25
    """How much of a row's weight depends on its margin; 0 is ``msl_tau``."""
    xi: PositiveFloat = 2.75
    """Width of the sigmoid, in units of log-probability."""
    top: PositiveInt = 10
    """Tokens that a beam search keeps of a prefix (a constant, 10, in the released code: its beams)."""
    norm: Literal["count", "weight"] = "count"
    """Divide the step's sum by the rows with a choice, as every masked loss here, or by the sum of their
    weights, as the released code does within a micro-batch."""
    tau: PositiveFloat = 1.0
    """Temperature of the softmax over the valid tokens, and factor of the loss."""


@losses.register("bear")
class BEAR(Observing):
    """Masked softmax weighted by the label's margin in a beam search; mean over rows with a choice."""

    Config: ClassVar[type[Config]] = BEARConfig
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "lam": (0.25, 0.5, 1.0, 2.0),
        "xi": (0.5, 1.0, 2.75, 5.0),
        "tau": GRID,
    }

    def __init__(self, config: Any, trie: Trie, *, vocabulary: int, avt: float) -> None:
        """As every loss; nothing is counted yet."""
        super().__init__(config, trie, vocabulary=vocabulary, avt=avt)
        self.totals = dict.fromkeys(SUMS, 0.0)
        self.latest = dict.fromkeys(SUMS, 0.0)  # of the latest optimizer step

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """``w tau`` times the masked negative log-likelihood of each row."""
        c = self.config
        how = Softmax(c.tau, read=partial(above_last_kept, top=c.top))
        masked = masked_nll(hidden_RD, head, answers, self.trie, how)
        if masked.read_KC is None:
            return masked.nll_R
        gap_K = masked.read_KC[:, 0] / c.tau
        weight_K = bear_weight(gap_K / c.xi, lam=c.lam, form=c.form).to(masked.nll_R.dtype)
        if self._observes:
            total, below = weight_K.double().sum(), (gap_K < 0).double().sum()
            counts = len(weight_K), np.count_nonzero(masked.fan_out_K > c.top)
            rows, wide = (total.new_full((), float(count)) for count in counts)
            self._note(torch.stack([rows, total, wide, below]))
        weight_R = torch.ones_like(masked.nll_R).index_copy(0, masked.kept_R, weight_K)
        return c.tau * weight_R * masked.nll_R

    def rescale(self) -> float:
        """Rows over summed weights of this optimizer step, over all ranks, under ``norm: weight``."""
        if self.config.norm == "count":
            return 1.0
        rows, weight, *_ = self._noted(len(SUMS))
        return rows / weight if rows else 1.0

    def step(self) -> None:
        """Count what was seen in this optimizer step; every rank has to call it."""
        self.latest = dict(zip(SUMS, self._noted(len(SUMS)), strict=True))
        self.totals = {name: self.totals[name] + self.latest[name] for name in SUMS}
        self._forget()

    def state_dict(self) -> dict[str, float]:
        """Counters."""
        return dict(self.totals)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over what ``state_dict`` returned."""
        self.totals = {name: float(state[name]) for name in SUMS}

    def facts(self) -> dict[str, float]:
        """Means over all rows with a choice that were trained on: see ``watch``."""
        return _shares(self.totals)

    def watch(self) -> dict[str, float]:
        """The latest step: tau, mean weight, shares with more than ``top`` tokens and with M below 0."""
        return {**super().watch(), **_shares(self.latest)}


def _shares(sums: Mapping[str, float]) -> dict[str, float]:
    rows = sums["rows"]
    return {f"bear_{name}": sums[name] / rows if rows else 0.0 for name in SUMS[1:]}
