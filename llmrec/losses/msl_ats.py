"""MSL with the temperature set by the data: Adaptive Temperature Strategy (MSL, Eq. 11 and 12).

With Gaussian valid logits the target's share is P = exp((f - mu) / tau - s2 / (2 tau^2)) / m. Setting
P = eta, C = ln(m eta), d = f - mu gives C tau^2 - d tau + s2 / 2 = 0; the larger root is the temperature.

``corrected``: m is the mean number of valid tokens, statistics are taken within each row that has a
choice, over the whole optimizer step and all ranks, and tau moves once a step, in training only.
``released`` (train_trie_token_ats): m is the root's fan-out, logits of all rows with that fan-out are
pooled, and tau moves at every forward, before the loss uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, distributed

from bench.errors import ConfigError
from bench.registry import losses
from llmrec.head import Head
from llmrec.losses._masked import Softmax, masked_nll
from llmrec.losses._valid import fan_out
from llmrec.losses.base import Answers, positive
from llmrec.losses.msl import MSL, MSLConfig
from llmrec.trie import Trie

COUNT, GAP, VARIANCE, MEAN, MEAN_SQUARE = range(5)  # columns of the sums


def adaptive_tau(gap: float, variance: float, m: float, eta: float) -> float:
    """The temperature at which a target ``gap`` above the mean of m Gaussian logits has share ``eta``.

    A discriminant below zero counts as zero, as in the authors' code; a gap below zero gives a value
    of no meaning that the caller clamps.

    Raises:
        ConfigError: m * eta is at most 1, so that no temperature makes the target stand out.
    """
    if not m * eta > 1:
        raise ConfigError(
            f"m * eta is {m:.4g} * {eta:.4g} = {m * eta:.4g}; it must be above 1: raise eta, or count "
            "m over more positions (ats m: avt, branching, first)"
        )
    bound = math.log(m * eta)
    discriminant = max(0.0, gap * gap - 2 * bound * variance)
    return (gap + math.sqrt(discriminant)) / (2 * bound)


def sum_over_ranks(sums: Tensor) -> Tensor:
    """Add up a tensor over all ranks; itself where torch.distributed is not running."""
    if distributed.is_available() and distributed.is_initialized():
        if distributed.get_backend() == "nccl":
            sums = sums.to(torch.device("cuda", torch.cuda.current_device()))
        distributed.all_reduce(sums)
    return sums


@dataclass(frozen=True, kw_only=True)
class MSLATSConfig(MSLConfig):
    """Adaptive temperature; the defaults are the authors'.

    Attributes:
        eta: share of probability the target is meant to have.
        m: what counts as the number of valid tokens in the corrected form: ``avt`` (mean over the
            training targets), ``first`` (the root's), ``branching`` (mean over positions with a choice,
            each title once). The released form always takes the root's.
        rate: weight of the new value in the moving average.
        start: first temperature.
        clamp: lowest and highest temperature.
    """

    eta: float = 0.25
    m: Literal["avt", "first", "branching"] = "avt"
    rate: float = 0.05
    start: float = 1.5
    clamp: tuple[float, float] = (1.5, 5.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("eta", "start"):
            positive(name, getattr(self, name))
        if not 0 < self.rate <= 1:
            raise ConfigError(f"rate is {self.rate}; it must be above 0 and at most 1")
        if self.m not in {"avt", "first", "branching"}:
            raise ConfigError(f"m is {self.m!r}; it must be one of avt, first, branching")
        if len(self.clamp) != 2 or not 0 < self.clamp[0] <= self.clamp[1] < math.inf:
            raise ConfigError(
                f"clamp is {self.clamp}; it must be two positive numbers, low then high"
            )


@losses.register("msl_ats")
class MSLATS(MSL):
    """Masked softmax with adaptive temperature; leading tau, mean over rows with a choice."""

    Config = MSLATSConfig

    def __init__(self, config: Any, trie: Trie, *, vocabulary: int, avt: float) -> None:
        """Work out m and refuse a catalogue for which it is too small."""
        super().__init__(config, trie, vocabulary=vocabulary, avt=avt)
        self.m = self._valid_tokens()
        self.reduce: Callable[[Tensor], Tensor] = sum_over_ranks
        self.tau = self.config.start
        self.updates = self.clamped = self.unobserved = 0
        self._sums: Tensor | None = None
        if trie.n_leaves > 1:
            adaptive_tau(1.0, 1.0, self.m, self.config.eta)  # raises if m * eta is too small

    def _valid_tokens(self) -> float:
        if self.config.form == "released" or self.config.m == "first":
            return float(self.trie.fan_out_M[0])
        if self.config.m == "avt":
            return self.avt
        fan_out_P = self.trie.fan_out_M[self.trie.path.take(self.trie.leaf_of_item_N[1:]).values]
        return float(fan_out_P[fan_out_P > 1].mean()) if (fan_out_P > 1).any() else 1.0

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """``tau * (logsumexp_{z valid} f(z) / tau - f(y) / tau)``; no gradient goes through tau."""
        observing = self.training and torch.is_grad_enabled()
        if self.config.form == "released":
            if observing:
                self._observe_first(hidden_RD.detach(), head, answers)
            how = Softmax(self.tau)
            return self.tau * masked_nll(hidden_RD, head, answers, self.trie, how).nll_R
        how = Softmax(self.tau, moments=observing)
        masked = masked_nll(hidden_RD, head, answers, self.trie, how)
        if masked.moments_K3 is not None:
            sums = _sums(masked.moments_K3)
            self._sums = sums if self._sums is None else self._sums + sums
        return self.tau * masked.nll_R

    def count(self, answers: Answers) -> int:
        """Rows with a choice, in both forms."""
        return int((fan_out(self.trie, answers.node_R) > 1).sum())

    def step(self) -> None:
        """Move tau by the statistics of this optimizer step; every rank has to call it."""
        if self.config.form == "released":
            return
        sums = torch.zeros(5, dtype=torch.float64) if self._sums is None else self._sums
        self._sums = None
        total = self.reduce(sums).tolist()
        if total[COUNT] == 0:
            self.unobserved += 1
            return
        self._move(total[GAP] / total[COUNT], total[VARIANCE] / total[COUNT])

    @torch.no_grad()
    def _observe_first(self, hidden_RD: Tensor, head: Head, answers: Answers) -> None:
        first = answers.take(fan_out(self.trie, answers.node_R) == int(self.m))
        hidden = hidden_RD[fan_out(self.trie, answers.node_R) == int(self.m)]
        moments = masked_nll(hidden, head, first, self.trie, Softmax(moments=True)).moments_K3
        assert moments is not None, "moments were asked for"
        count, gap, variance, mean, square = self.reduce(_sums(moments)).tolist()
        if count == 0:
            self.unobserved += 1
            return
        pooled = variance + square - mean * mean / count  # within rows, and between them
        size = count * self.m
        self._move(gap / count, pooled / count * size / (size - 1))

    def _move(self, gap: float, variance: float) -> None:
        low, high = self.config.clamp
        tau = adaptive_tau(gap, variance, self.m, self.config.eta) if gap > 0 else low
        kept = min(max(tau, low), high)
        self.updates += 1
        self.clamped += kept != tau or gap <= 0
        self.tau = (1 - self.config.rate) * self.tau + self.config.rate * kept

    def state_dict(self) -> dict[str, float]:
        """Temperature and counters."""
        counters = {key: float(getattr(self, key)) for key in ("updates", "clamped", "unobserved")}
        return {"tau": self.tau, **counters}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Undo ``state_dict``."""
        self.tau = float(state["tau"])
        for key in ("updates", "clamped", "unobserved"):
            setattr(self, key, int(state[key]))

    def facts(self) -> dict[str, float]:
        """Temperature, m, number of updates and the share of them that hit the clamp."""
        share = self.clamped / self.updates if self.updates else 0.0
        return {"tau": self.tau, "ats_m": self.m, "ats_updates": self.updates, "ats_clamped": share}


def _sums(moments_K3: Tensor) -> Tensor:
    """Count and sums of gap, variance, mean and squared mean, fp64 [5]."""
    gap_K, variance_K, mean_K = moments_K3.double().unbind(1)
    parts = (gap_K.sum(), variance_K.sum(), mean_K.sum(), mean_K.square().sum())
    return torch.stack([gap_K.new_tensor(float(len(gap_K))), *parts])
