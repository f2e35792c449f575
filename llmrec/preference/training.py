"""Preference training: every row has a positive answer and several negatives, judged against a reference.

The reference is the model as it stands when training begins (the LML model with its adapters, all its
weights or its projections, whatever it learns). Its log-probabilities are computed once, before the
first step and for every epoch's negatives (``reference``), so no copy of the model is kept.
W rows, E draws of negatives, J = 1 + K answers a row (the positive first), B rows of a micro-batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import ranks
from bench.types import FloatArray, IntArray
from llmrec.lm.backbone import Backbone
from llmrec.lm.transfer import moved
from llmrec.losses.base import NotFinite
from llmrec.preference.base import PreferenceLoss
from llmrec.preference.rows import PreferenceRow, parts_of
from llmrec.training.packing import Example
from llmrec.training.shared_prefix import LogProbs

COLUMNS = ("loss", "reward_chosen", "reward_rejected", "reward_margin", "reward_accuracy")


class PreferenceBatchLoss:
    """A registered preference loss over rows with several answers (see ``llmrec.training.batch_loss``).

    Args:
        loss: the loss.
        log_probs: computes the log-probabilities of answers.
        steps_per_epoch: optimizer steps between two draws of negatives.
    """

    def __init__(self, loss: PreferenceLoss, log_probs: LogProbs, *, steps_per_epoch: int) -> None:
        self.loss, self.log_probs, self.steps_per_epoch = loss, log_probs, steps_per_epoch
        self.trie, self.shared, self.room = log_probs.trie, log_probs.shared, log_probs.room
        self.steps, self.tokens = 0, 0
        self.sums: list[list[float]] = []  # by epoch: rows, then COLUMNS
        self.first_loss: list[float] = [0.0, 0.0]  # rows and summed loss of the first step
        self._fresh = [0.0] * (2 + len(COLUMNS))  # of this step, on this rank: tokens, then as sums
        self.latest: list[float] = []  # means of COLUMNS over the latest micro-batch
        self._unread: list[tuple[Tensor, Tensor, Tensor, list[int]]] = []

    @property
    def epoch(self) -> int:
        """The epoch that the coming step belongs to, from 0."""
        return self.steps // self.steps_per_epoch

    def right_answers(self, rows: Sequence[PreferenceRow]) -> list[Example]:
        """The rows with their positive answers only."""
        return [Example(row.prompt, int(row.leaf_EJ[0, 0]), number=row.number) for row in rows]

    def answers(self, row: PreferenceRow) -> IntArray:
        """The row's answers in this epoch, [J]."""
        return row.leaf_EJ[self.epoch % len(row.leaf_EJ)]

    def reference(self, row: PreferenceRow) -> FloatArray:
        """Log-probabilities of these answers under the reference, [J]."""
        assert row.reference_EJ is not None, "this row has no reference log-probabilities yet"
        return row.reference_EJ[self.epoch % len(row.leaf_EJ)]

    def parts(self, rows: Sequence[PreferenceRow], size: int) -> Iterator[list[PreferenceRow]]:
        """The rows of an optimizer step as micro-batches of similar length.

        Args:
            rows: of the step.
            size: sequences of a micro-batch; a row is one sequence, or one for each answer without shared
                prefixes.
        """
        wide = 1 if self.log_probs.together else rows[0].leaf_EJ.shape[1]
        size = max(1, size // wide)
        for part in parts_of(rows, self.log_probs.trie, size, self.log_probs.room):
            yield [rows[row] for row in part]

    def count(self, rows: Sequence[PreferenceRow]) -> int:
        """Rows: the loss is their mean."""
        return len(rows)

    def sum(self, lm: Backbone, rows: Sequence[PreferenceRow]) -> Tensor:
        """Summed loss of these rows.

        Args:
            lm: the model.
            rows: of a micro-batch.
        """
        leaf_BJ = np.stack([self.answers(row) for row in rows])
        reference_BJ = np.stack([self.reference(row) for row in rows])
        log_prob_BJ, tokens = self.log_probs(lm, [row.prompt for row in rows], leaf_BJ)
        self.tokens += tokens
        self._fresh[0] += tokens
        (reference,) = moved([torch.from_numpy(reference_BJ)], log_prob_BJ.device)
        return self.judge(log_prob_BJ, reference, [row.number for row in rows])

    def judge(
        self, log_prob_BJ: Tensor, reference_BJ: Tensor, numbers: Sequence[int] = ()
    ) -> Tensor:
        """Summed loss from log-probabilities under policy and reference; ``settle`` counts the rewards.

        Args:
            log_prob_BJ: log-probabilities of the answers under the policy, the positive first.
            reference_BJ: the same under the reference.
            numbers: of the training rows, for messages.
        """
        loss_B = self.loss.of_log_probs(log_prob_BJ, reference_BJ)
        with torch.no_grad():
            reward_BJ = self.loss.beta * (log_prob_BJ - reference_BJ).float()
            chosen_B, rejected_BK = reward_BJ[:, 0], reward_BJ[:, 1:]
            margin_B = chosen_B - rejected_BK.amax(1)
            columns = (loss_B, chosen_B, rejected_BK.mean(1), margin_B, (margin_B > 0).float())
            sums = torch.stack([column.sum() for column in columns])
        self._unread.append((log_prob_BJ.detach(), reference_BJ, sums, list(numbers)))
        return loss_B.sum()

    def settle(self, lm: Backbone, loss: float) -> None:
        """Count the rewards of the micro-batches judged since; say which rows make a loss not finite.

        Args:
            lm: the model.
            loss: of the step.

        Raises:
            NotFinite: the loss is not finite; names the training rows.
        """
        unread, self._unread = self._unread, []
        for log_prob_BJ, reference_BJ, sums, numbers in unread:
            if not math.isfinite(loss):
                try:
                    self.loss.preference(log_prob_BJ, reference_BJ)
                except NotFinite as fault:
                    raise (fault.among(numbers) if numbers else fault) from None
            found = sums.tolist()
            self.latest = [number / len(log_prob_BJ) for number in found]
            self._record([float(len(log_prob_BJ)), *found])

    def _record(self, numbers: list[float]) -> None:
        self._fresh[1:] = [old + new for old, new in zip(self._fresh[1:], numbers, strict=True)]
        self._add(numbers)

    def _add(self, numbers: list[float]) -> None:
        while len(self.sums) <= self.epoch:
            self.sums.append([0.0] * (1 + len(COLUMNS)))
        self.sums[-1] = [old + new for old, new in zip(self.sums[-1], numbers, strict=True)]
        if self.steps == 0:
            self.first_loss = [self.first_loss[0] + numbers[0], self.first_loss[1] + numbers[1]]

    def step(self) -> None:
        """Count the optimizer step, and what the other ranks saw in it; the count decides the epoch."""
        if ranks.size() > 1:
            fresh = torch.tensor(self._fresh, dtype=torch.float64)
            tokens, *numbers = (ranks.summed(fresh.clone()) - fresh).tolist()
            self.tokens += round(tokens)
            self._add(numbers)
        self._fresh = [0.0] * len(self._fresh)
        self.steps += 1

    def snapshot(self) -> dict[str, Any]:
        """All state."""
        return copy.deepcopy(self.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Undo what happened since ``snapshot``."""
        self.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """Steps, tokens and rewards so far."""
        return {k: getattr(self, k) for k in ("steps", "tokens", "sums", "first_loss")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        vars(self).update(copy.deepcopy(dict(state)))
        self._unread = []
        self._fresh = [0.0] * len(self._fresh)  # states are taken between steps

    def facts(self) -> Mapping[str, Any]:
        """Tokens, the first step's loss and, by epoch, mean rewards (beta included) and margins.

        ``first_loss_off`` is what the first step's loss is above that of equal rewards, with which it begins
        where policy and reference are the same numbers (ln(1 + K) for S-DPO); a loss without a reference has
        none. The margin is that over the best negative; accuracy is the share of rows where it is positive.
        """
        facts: dict[str, Any] = {"train_tokens": self.tokens}
        if self.first_loss[0]:
            facts["first_loss"] = self.first_loss[1] / self.first_loss[0]
        if self.first_loss[0] and self.loss.starts_tuned:
            # policy and reference are one model
            alike = torch.zeros(1, 1 + self.loss.config.negatives)
            facts["first_loss_off"] = facts["first_loss"] - float(self.loss.of_rewards(alike))
        for place, name in enumerate(COLUMNS[1:], 2):
            facts[f"{name}_by_epoch"] = [sums[place] / sums[0] for sums in self.sums]
        return facts
