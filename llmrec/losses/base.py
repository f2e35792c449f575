"""The base class of losses over answer tokens.

R rows (answer tokens of a batch), D hidden width, V vocabulary, M trie nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from bench import component
from bench.config import Config, later
from bench.errors import ContractError
from bench.method import configure
from bench.ragged import within
from bench.types import IntArray
from llmrec.lm.device_costs import costs_of
from llmrec.lm.head import Head
from llmrec.lm.transfer import moved
from llmrec.losses._valid import Plan, planned
from llmrec.trie import Trie

GRID = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)


@dataclass(frozen=True, eq=False)
class Answers:
    """The answer tokens of a batch, one row each.

    Attributes:
        token_R: the label, int64.
        node_R: trie node where it is chosen, int64.
        row_R: index of its sequence in the batch, int64.
        leaf_R: leaf of that sequence's answer, int64.
        plan: how masked losses compute these rows; None where they find that out by themselves.
    """

    token_R: Tensor
    node_R: Tensor
    row_R: Tensor
    leaf_R: Tensor
    plan: Plan | None = None

    @classmethod
    def of(cls, trie: Trie, leaf_B: IntArray) -> Answers:
        """All answer tokens of these leaves, end tokens included, sequence after sequence.

        Args:
            trie: the catalogue.
            leaf_B: leaf of each sequence's answer.
        """
        leaf_B = np.asarray(leaf_B)
        answer, path = trie.answer.take(leaf_B), trie.path.take(leaf_B)
        row_R = np.repeat(np.arange(len(leaf_B)), answer.lengths)
        columns = (answer.values, path.values, row_R, leaf_B[row_R])
        token, node, row, leaf = (torch.from_numpy(column.astype(np.int64)) for column in columns)
        return cls(token, node, row, leaf)

    def __len__(self) -> int:
        return len(self.token_R)

    @property
    def columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is known of each row, in the order of the fields."""
        return self.token_R, self.node_R, self.row_R, self.leaf_R

    def places(self) -> IntArray:
        """Index of each token within its answer, [R]; no token before it may be left out."""
        return within(np.bincount(self.row_R.numpy()))

    def take(self, kept_R: Tensor) -> Answers:
        """The given rows, by mask or by index."""
        token_R, node_R, row_R, leaf_R = (column[kept_R] for column in self.columns)
        return Answers(token_R, node_R, row_R, leaf_R)

    def to(self, device: torch.device) -> Answers:
        """The same on another device."""
        if device == self.token_R.device:
            return self
        token_R, node_R, row_R, leaf_R = moved(self.columns, device)
        plan = None if self.plan is None else self.plan.to(device)
        return Answers(token_R, node_R, row_R, leaf_R, plan)

    def planned(self, trie: Trie, device: torch.device) -> Answers:
        """The same rows, on the host, with the plan for a device; every label has to be valid.

        Args:
            trie: the valid tokens.
            device: where the loss will be computed.
        """
        token_R, node_R = self.token_R.numpy(), self.node_R.numpy()
        found = planned(trie, token_R, node_R, costs_of(device))
        return replace(self, plan=found)


class NotFinite(ContractError):
    """A loss is infinite or NaN at some rows."""

    said = ""
    rows: Sequence[int] = ()

    @classmethod
    def at(cls, rows: Sequence[int], what: str, said: str) -> NotFinite:
        """The error with the rows written into its message.

        Args:
            rows: numbers of the rows at fault.
            what: what is counted: ``rows``, ``sequences`` or ``training rows``.
            said: the message; ``{where}`` in it becomes ``what`` and the numbers.
        """
        fault = cls(said.format(where=f"{what} {list(rows)}"))
        fault.said, fault.rows = said, rows
        return fault

    def among(self, numbers: Sequence[int]) -> NotFinite:
        """The same error, naming training rows.

        Args:
            numbers: number of the training row of each row that the loss was given.
        """
        return type(self).at([numbers[row] for row in self.rows], "training rows", self.said)


class TokenConfig(Config):
    """Options of every loss over answer tokens."""

    loss_norm: Literal["token_mean", "seq_sum_mean"] = later(default="token_mean")
    """``token_mean`` divides the summed loss of an optimizer step by the tokens it counts, as the released
    code does within a rank; ``seq_sum_mean`` by the answers, as Eq. 1 and 5 are written."""


class Loss(component.Loss, ABC):
    """A training loss over answer tokens, with whatever state it carries from step to step.

    A trainer sums ``loss(...)`` over all micro-batches and ranks of an optimizer step, divides by the
    sum of ``divisor(...)``, multiplies by ``rescale()`` and calls ``step()`` after the optimizer.

    Class attributes:
        needs_all_rows: False if rows with a single valid token may be left out of the forward pass
            (``count`` still wants all of them).
        starts_tuned: whether its training goes on from the model that LML left.
        plans: True if the loss reads ``Answers.plan``, which training then makes beforehand.
    """

    kind: ClassVar[component.Kind] = "token"
    contract: ClassVar[str] = "llmrec.losses.contract"
    needs_all_rows: ClassVar[bool] = True
    starts_tuned: ClassVar[bool] = False
    plans: ClassVar[bool] = False

    def __init__(self, config: Any, trie: Trie, *, vocabulary: int, avt: float) -> None:
        """A loss for one catalogue.

        Args:
            config: an instance of Config, a mapping of options, or None for the defaults.
            trie: the catalogue's titles.
            vocabulary: number of true tokens, without a checkpoint's padding rows.
            avt: mean number of valid tokens over the training targets (``trie.avt``).

        Raises:
            ConfigError: an option out of range.
        """
        self.config = configure(type(self), config)
        self.trie, self.vocabulary, self.avt = trie, vocabulary, avt
        self.training = True

    def __call__(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """Sum of the loss over the rows it counts, a scalar in fp32 (fp64 for fp64 inputs).

        Args:
            hidden_RD: final hidden states at the positions that predict ``answers``.
            head: the model's output head.
            answers: the labels, one a row.

        Raises:
            NotFinite: the loss is not finite; the message holds the rows to look at.
            ConfigError: a label is not among its valid tokens.
        """
        assert len(hidden_RD) == len(answers), f"{len(hidden_RD)} states, {len(answers)} labels"
        answers = answers.to(hidden_RD.device)
        loss_R = self.per_row(hidden_RD, head, answers)
        total = loss_R.sum()
        if not torch.isfinite(total):
            self._report(loss_R, hidden_RD, head, answers)
        return total

    @abstractmethod
    def per_row(self, hidden_RD: Tensor, head: Head, answers: Answers) -> Tensor:
        """The loss of each row, 0 where the row is not counted, [R].

        Args:
            hidden_RD: final hidden states at the positions that predict ``answers``.
            head: the model's output head.
            answers: the labels, on the device of ``hidden_RD``.
        """

    def count(self, answers: Answers) -> int:
        """How many of these rows the mean over tokens is taken over."""
        return len(answers)

    def divisor(self, answers: Answers, n_answers: int) -> int:
        """What the summed loss of these rows is divided by, under the option ``loss_norm``.

        Args:
            answers: all answer tokens of the rows.
            n_answers: how many answers they belong to.
        """
        by_answer = getattr(self.config, "loss_norm", "token_mean") == "seq_sum_mean"
        return n_answers if by_answer else self.count(answers)

    @property
    def temperature(self) -> float:
        """The temperature of the softmax at present."""
        return float(getattr(self, "tau", getattr(self.config, "tau", 1.0)))

    def matters(self, answers: Answers) -> Tensor:
        """Rows that the forward pass has to reach, bool [R]."""
        if self.needs_all_rows:
            return torch.ones_like(answers.token_R, dtype=torch.bool)
        node_R = answers.node_R.cpu().numpy()
        return torch.from_numpy(self.trie.fan_out_M[node_R] > 1).to(answers.node_R.device)

    def train(self, mode: bool = True) -> None:
        """Whether calls belong to training, so that statistics may be taken from them."""
        self.training = mode

    def observe_targets(self, leaf_W: IntArray) -> None:
        """Told of the leaves of all training targets, before training and never of others."""

    def rescale(self) -> float:
        """What the gradients of the coming optimizer step are multiplied by, 1 for most losses.

        For a divisor that is known only after the forward passes. Called between the last backward pass and
        the clipping, with every micro-batch of the step seen; every rank has to call it.
        """
        return 1.0

    def settle(self) -> None:
        """Bring to the host what ``step`` will read; called when the host has waited for the device."""

    def step(self) -> None:
        """Called once after each optimizer step."""

    def state_dict(self) -> dict[str, float]:
        """State that a resumed run needs, JSON-able."""
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over what ``state_dict`` returned."""

    def facts(self) -> dict[str, float]:
        """Numbers about the training so far, shown with the row."""
        return {}

    def watch(self) -> dict[str, float]:
        """Numbers that a record of the training holds step by step (``llmrec.training.microscope``)."""
        return {"tau": self.temperature}

    def _report(self, loss_R: Tensor, hidden_RD: Tensor, head: Head, answers: Answers) -> None:
        bad = torch.nonzero(~torch.isfinite(loss_R)).flatten()[:8]
        with torch.no_grad():
            peak = float(head.logits(hidden_RD[bad]).max()) if len(bad) else float("nan")
        raise NotFinite.at(
            answers.row_R[bad].tolist(),
            "sequences",
            f"{self.name}: the loss is not finite at {{where}} with labels "
            f"{answers.token_R[bad].tolist()} (tau {self.temperature}, largest logit {peak}); "
            "lower the learning rate or look at these rows",
        )
