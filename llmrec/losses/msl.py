"""Masked Softmax Loss: softmax over the tokens that continue some title (MSL, SIGIR 2025, Eq. 5).

Two forms. ``corrected``: Eq. 9 with its leading tau, mean over the rows that have a choice. ``released``:
the authors' train_trie_token script, without the leading tau, mean over all rows; rows with a single
valid token add exactly 0 to the sum in both.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import PositiveFloat
from torch import Tensor

from bench.config import Config
from bench.registry import losses
from llmrec.lm.head import Head
from llmrec.losses._masked import Softmax, masked_nll
from llmrec.losses._valid import fan_out
from llmrec.losses.base import GRID, Answers, Loss, TokenConfig
from llmrec.trie import Trie

Form = Literal["corrected", "released"]


def msl(hidden_RD: Tensor, head: Head, answers: Answers, trie: Trie, *, tau: float = 1.0) -> Tensor:
    """``logsumexp_{z valid} f(z) / tau - f(y) / tau`` of each row, in fp32, [R].

    No tensor of tokens x V is made: the head rows of the batch's valid tokens are gathered once (a few
    thousand), multiplied with the rows that have a choice, and masked.

    Args:
        hidden_RD: states that predict the labels.
        head: output head, frozen or learning.
        answers: labels and the trie nodes they are chosen at, on the device of ``hidden_RD``.
        trie: valid tokens of every prefix.
        tau: temperature. Multiply the result by it for the paper's Eq. 9.

    Raises:
        ConfigError: a label is not among its valid tokens (the authors' code gives an infinite loss).
    """
    return masked_nll(hidden_RD, head, answers, trie, Softmax(tau)).nll_R


def msl_alpha(
    hidden_RD: Tensor, head: Head, answers: Answers, trie: Trie, *, alpha_R: Tensor
) -> Tensor:
    """MSL whose negatives count ``alpha`` times in the denominator (MSL, Table 6), [R].

    ``log(exp f(y) + alpha * sum_{z valid, z != y} exp f(z)) - f(y)``: with alpha = V / |valid| the
    negatives weigh as much as they would under LML, which isolates the effect of the masking.

    Args:
        hidden_RD: states that predict the labels.
        head: output head, frozen or learning.
        answers: labels and the trie nodes they are chosen at, on the device of ``hidden_RD``.
        trie: valid tokens of every prefix.
        alpha_R: weight of the negatives of each row, above 0.

    Raises:
        ConfigError: a label is not among its valid tokens.
    """
    how = Softmax(bonus_R=alpha_R.log().to(head.precision(hidden_RD)))
    return masked_nll(hidden_RD, head, answers, trie, how).nll_R


def n_choices(answers: Answers, trie: Trie) -> int:
    """How many rows have more than one valid token.

    Args:
        answers: the rows.
        trie: valid tokens of every prefix.
    """
    return int(np.count_nonzero(trie.fan_out_M[answers.node_R.cpu().numpy()] > 1))


class MSLConfig(TokenConfig):
    """Options of every masked softmax loss."""

    form: Form = "corrected"
    """Which rows the mean is over: those with a choice (corrected) or all (released)."""


class MSLTauConfig(MSLConfig):
    """A fixed temperature."""

    tau: PositiveFloat = 1.5
    """The temperature (the authors' best: Toy 4.5, Book 1.5, Clothing 4, Office 3)."""


class MSLAlphaConfig(MSLConfig):
    """How heavily negatives count."""

    mode: Literal["per_position", "global"] = "per_position"
    """Whether alpha is V / valid tokens of the row, or V / their mean for all rows."""


@losses.register("msl")
class MSL(Loss):
    """Masked softmax without temperature (MSL, Eq. 5)."""

    needs_all_rows, plans = False, True
    Config: ClassVar[type[Config]] = MSLConfig

    def __init__(self, config: Any, trie: Trie, *, vocabulary: int, avt: float) -> None:
        """As every loss; warns if the trie leaves nothing to learn."""
        super().__init__(config, trie, vocabulary=vocabulary, avt=avt)
        if trie.n_leaves == 1:
            warnings.warn(
                "the catalogue has one title: masked losses are 0 everywhere", stacklevel=2
            )

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """See ``msl``."""
        return msl(hidden_RD, head, answers, self.trie)

    def count(self, answers: Answers) -> int:
        """Rows with a choice, or all rows in the released form."""
        if self.config.form == "released":
            return len(answers)
        return n_choices(answers, self.trie)


@losses.register("msl_tau")
class MSLTau(MSL):
    """Masked softmax with a tuned temperature (MSL, Eq. 9)."""

    Config = MSLTauConfig
    search: ClassVar[Mapping[str, tuple[Any, ...]]] = {"tau": GRID}

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """See ``msl``; the leading tau makes the gradient's weight exactly 1 - P (Eq. 10)."""
        return self.leading * msl(hidden_RD, head, answers, self.trie, tau=self.config.tau)

    @property
    def leading(self) -> float:
        """The factor of the loss: tau in the corrected form, 1 in the released."""
        return float(self.config.tau) if self.config.form == "corrected" else 1.0


@losses.register("msl_alpha")
class MSLAlpha(MSL):
    """Masked softmax with negatives weighed up to the size of the vocabulary (MSL, Table 6)."""

    Config = MSLAlphaConfig

    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """See ``msl_alpha``."""
        if self.config.mode == "global":
            alpha_R = torch.ones_like(answers.token_R, dtype=torch.float64)
            alpha_R *= self.vocabulary / self.avt
        else:
            alpha_R = self.vocabulary / fan_out(self.trie, answers.node_R).double()
        return msl_alpha(hidden_RD, head, answers, self.trie, alpha_R=alpha_R)
