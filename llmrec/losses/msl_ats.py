"""MSL with the temperature set by the data: Adaptive Temperature Strategy (MSL, Eq. 11 and 12).

With Gaussian valid logits the target's share is P = exp((f - mu) / tau - s2 / (2 tau^2)) / m. Setting
P = eta, C = ln(m eta), d = f - mu gives C tau^2 - d tau + s2 / 2 = 0; the larger root is the temperature.

Where m eta is at most 1 (few valid tokens), chance alone gives the target eta; tau then goes to the upper
clamp, the limit of the formula, and the row's fact ``ats_eta_above_chance`` is 0.

``corrected``: m is the mean number of valid tokens, statistics are taken within each row that has a
choice, over the whole optimizer step and all ranks, and tau moves once a step, in training only.
``released`` (train_trie_token_ats): m is the root's fan-out, and logits of all rows with that fan-out are
pooled. The authors move tau by a batch's statistics before its loss; their batch is one forward of all
ranks. Here a batch may be cut into micro-batches that forget each other, so tau moves behind the optimizer
step and reaches the loss one step later (half-life of the moving average: 13.5 steps). In exchange it
depends on nothing but the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor
from typing_extensions import Self

from bench.errors import ConfigError
from bench.registry import losses
from bench.types import IntArray
from llmrec.lm.head import Head
from llmrec.lm.transfer import moved
from llmrec.losses._masked import Softmax, masked_nll, moments
from llmrec.losses._observing import Observing
from llmrec.losses.base import Answers
from llmrec.losses.msl import MSLConfig
from llmrec.trie import Trie

COUNT = 0  # columns of the sums; then gap, variance, mean and squared mean


def adaptive_tau(gap: float, variance: float, m: float, eta: float) -> float:
    """The temperature at which the target has probability ``eta`` among m Gaussian logits (MSL, Eq. 12).

    A discriminant below zero counts as zero, as in the authors' code; a gap below zero gives a value
    without meaning, which the caller clamps. Where m * eta is at most 1, chance alone gives the target
    ``eta``: the limit of the formula is taken, infinity above a gap of 0 and 0 below.

    Args:
        gap: target's logit minus the mean valid logit.
        variance: of the valid logits.
        m: number of valid tokens.
        eta: probability the target is meant to have.
    """
    if not m * eta > 1:
        return math.inf if gap > 0 else 0.0
    bound = math.log(m * eta)
    discriminant = max(0.0, gap * gap - 2 * bound * variance)
    return (gap + math.sqrt(discriminant)) / (2 * bound)


class MSLATSConfig(MSLConfig):
    """Adaptive temperature; the defaults are the authors'."""

    eta: PositiveFloat = 0.25
    """Share of probability the target is meant to have."""
    m: Literal["avt", "first", "branching"] = "avt"
    """What counts as the number of valid tokens in the corrected form: ``avt`` (mean over the training
    targets), ``first`` (the root's), ``branching`` (mean over positions with a choice, each title once,
    whatever the number of its items). The released form always takes the root's."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Weight of the new value in the moving average."""
    start: PositiveFloat = 1.5
    """First temperature."""
    clamp: tuple[PositiveFloat, PositiveFloat] = (1.5, 5.0)
    """Lowest and highest temperature."""

    @model_validator(mode="after")
    def _clamp_rises(self) -> Self:
        if self.clamp[0] > self.clamp[1]:
            raise ConfigError(f"clamp is {list(self.clamp)}; the lower bound comes first")
        return self


@losses.register("msl_ats")
class MSLATS(Observing):
    """Masked softmax with adaptive temperature; leading tau, mean over rows with a choice."""

    Config = MSLATSConfig

    def __init__(self, config: Any, trie: Trie, *, vocabulary: int, avt: float) -> None:
        """As every loss; the released form refuses a trie whose root has no choice."""
        super().__init__(config, trie, vocabulary=vocabulary, avt=avt)
        self.m = self._valid_tokens()
        self.tau = self.config.start
        self.found = 0.0  # what Eq. 12 gave at the latest update, before the clamp
        self.updates = self.clamped = self.unobserved = 0
        if self.config.form == "released" and self.m < 2 <= trie.n_leaves:
            raise ConfigError(
                "form 'released' reads the first token of an answer alone, and here all answers begin alike; "
                "use form: corrected, the default"
            )

    def _valid_tokens(self) -> float:
        if self.config.form == "released" or self.config.m == "first":
            return float(self.trie.fan_out_M[0])
        if self.config.m == "avt":
            return self.avt
        fan_out_P = self.trie.fan_out_M[self.trie.path.values]
        return float(fan_out_P[fan_out_P > 1].mean()) if (fan_out_P > 1).any() else 1.0

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """``tau * (logsumexp_{z valid} f(z) / tau - f(y) / tau)``; no gradient goes through tau."""
        how = Softmax(self.tau, read=moments if self._observes else None)
        masked = masked_nll(hidden_RD, head, answers, self.trie, how)
        if masked.read_KC is not None:
            self._note(_sums(self._read(masked.read_KC, masked.fan_out_K)))
        return self.tau * masked.nll_R

    def _read(self, moments_K3: Tensor, fan_out_K: IntArray) -> Tensor:
        """The rows whose statistics count: all, or in the released form those with the root's fan-out."""
        if self.config.form == "corrected":
            return moments_K3
        chosen = torch.from_numpy(np.flatnonzero(fan_out_K == int(self.m)))
        return moments_K3.index_select(0, *moved([chosen], moments_K3.device))

    def step(self) -> None:
        """Move tau by the statistics of this optimizer step; every rank has to call it."""
        total = self._noted(5)
        self._forget()
        if total[COUNT] == 0:
            self.unobserved += 1
            return
        gap, variance, mean, square = (total[at] / total[COUNT] for at in range(1, 5))
        if self.config.form == "released":
            # unbiased, of the pooled logits: within rows and between them
            size = total[COUNT] * self.m
            variance = (variance + square - mean * mean) * size / (size - 1)
        self._move(gap, variance)

    def _move(self, gap: float, variance: float) -> None:
        low, high = self.config.clamp
        found = adaptive_tau(gap, variance, self.m, self.config.eta)
        kept = min(max(found, low), high)  # a gap below zero gives no positive temperature
        self.found = found if math.isfinite(found) else high  # checkpoints and rows hold numbers
        self.updates += 1
        self.clamped += kept != found
        self.tau = (1 - self.config.rate) * self.tau + self.config.rate * kept

    def state_dict(self) -> dict[str, float]:
        """Temperature and counters."""
        counters = {key: float(getattr(self, key)) for key in ("updates", "clamped", "unobserved")}
        return {"tau": self.tau, "found": self.found, **counters}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over what ``state_dict`` returned."""
        self.tau, self.found = float(state["tau"]), float(state.get("found", 0.0))
        for key in ("updates", "clamped", "unobserved"):
            setattr(self, key, int(state[key]))

    def facts(self) -> dict[str, float]:
        """Temperature, m, number of updates and the share of them that hit the clamp."""
        share = self.clamped / self.updates if self.updates else 0.0
        return {
            "tau": self.tau,
            "tau_unclamped": self.found,
            "ats_m": self.m,
            "ats_eta_above_chance": float(self.m * self.config.eta > 1),
            "ats_updates": self.updates,
            "ats_clamped": share,
        }

    def watch(self) -> dict[str, float]:
        """Temperature in force, and what Eq. 12 gave at the latest update before the clamp."""
        return {"tau": self.tau, "tau_unclamped": self.found}


def _sums(moments_K3: Tensor) -> Tensor:
    """Count and sums of gap, variance, mean and squared mean, fp64 [5]."""
    gap_K, variance_K, mean_K = moments_K3.double().unbind(1)
    parts = (gap_K.sum(), variance_K.sum(), mean_K.sum(), mean_K.square().sum())
    return torch.stack([gap_K.new_full((), len(gap_K)), *parts])
