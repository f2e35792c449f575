"""A training on rows of several tasks, each with a loss and a trie of its own.

The rows of all tasks are shuffled together, and the loss of an optimizer step is the sum over its rows
divided by the sum of what each task counts. So tasks weigh by their tokens (or by their answers, under the
option ``loss_norm: seq_sum_mean``), as if all were rows of one loss. Micro-batches hold rows of one task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from llmrec.lm.backbone import Backbone
from llmrec.losses.base import Loss
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.documents import Room
from llmrec.training.packing import Example
from llmrec.trie import Trie

MARK = "/"  # between a task and a name in its state


class SeveralTasks:
    """The method's own task and further ones (see ``llmrec.training.batch_loss.BatchLoss``).

    Loss, trie, temperature, and the factor by which a loss rescales a step's gradients are those of the
    method's own task; such a factor (BEAR under ``norm: weight``) applies to the rows of all tasks.

    Args:
        own: the loss over the rows without a task's name.
        others: by task, the loss over its rows.
    """

    def __init__(self, own: TokenBatchLoss, others: Mapping[str, TokenBatchLoss]) -> None:
        self.own, self.of_task = own, {"": own, **others}

    @property
    def loss(self) -> Loss:
        """The loss of the method's own task."""
        return self.own.loss

    @property
    def trie(self) -> Trie:
        """The answers of the method's own task."""
        return self.own.trie

    @property
    def shared(self) -> int:
        """Leading tokens that all prompts of the method's own task have in common."""
        return self.own.shared

    @property
    def room(self) -> Room | None:
        """How long rows of tokens are, if rows stand end to end."""
        return self.own.room

    def right_answers(self, rows: Sequence[Example]) -> list[Example]:
        """The rows of the method's own task."""
        return self.own.right_answers([row for row in rows if not row.task])

    def parts(self, rows: Sequence[Example], size: int) -> Iterator[list[Example]]:
        """The rows of an optimizer step as micro-batches, task after task.

        Args:
            rows: of the step.
            size: rows of a micro-batch at most.
        """
        for batch_loss, mine in self._by_task(rows):
            yield from batch_loss.parts(mine, size)

    def count(self, rows: Sequence[Example]) -> int:
        """What all tasks together count in these rows."""
        return sum(batch_loss.count(mine) for batch_loss, mine in self._by_task(rows))

    def sum(self, lm: Backbone, rows: Sequence[Example]) -> Tensor:
        """Summed loss of these rows of one task.

        Args:
            lm: the model.
            rows: of a micro-batch.
        """
        (found,) = [batch_loss.sum(lm, mine) for batch_loss, mine in self._by_task(rows)]
        return found

    def settle(self, lm: Backbone, loss: float) -> None:
        """Let every loss read its statistics; say which rows are at fault where the loss is not finite.

        Args:
            lm: the model.
            loss: of the step.

        Raises:
            NotFinite: the loss is not finite; names the training rows.
        """
        for batch_loss in self.of_task.values():
            batch_loss.settle(lm, loss)

    def step(self) -> None:
        """Let every loss update its state."""
        for batch_loss in self.of_task.values():
            batch_loss.step()

    def snapshot(self) -> dict[str, Any]:
        """All state, by task."""
        return {task: batch_loss.snapshot() for task, batch_loss in self.of_task.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo what happened since ``snapshot``."""
        for task, batch_loss in self.of_task.items():
            batch_loss.restore(state[task])

    def state_dict(self) -> Mapping[str, float]:
        """The state of the method's own task under its own names, that of others behind theirs."""
        return {
            f"{task}{MARK}{name}" if task else name: value
            for task, batch_loss in self.of_task.items()
            for name, value in batch_loss.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over what ``state_dict`` returned."""
        parts: dict[str, dict[str, float]] = {task: {} for task in self.of_task}
        for key, value in state.items():
            task, _, name = key.rpartition(MARK)
            parts[task][name] = value
        for task, batch_loss in self.of_task.items():
            batch_loss.load_state_dict(parts[task])

    def facts(self) -> Mapping[str, Any]:
        """The numbers of the method's own loss, and the tokens that went through the model in each task."""
        tokens = {task: batch_loss.tokens for task, batch_loss in self.of_task.items()}
        others = {task: number for task, number in tokens.items() if task}
        return {
            **self.own.facts(),
            "train_tokens": sum(tokens.values()),
            "train_tokens_of_tasks": others,
        }

    def _by_task(
        self, rows: Sequence[Example]
    ) -> Iterator[tuple[TokenBatchLoss, Sequence[Example]]]:
        """Each task that has rows among these, with them."""
        for task, batch_loss in self.of_task.items():
            if mine := [row for row in rows if row.task == task]:
                yield batch_loss, mine
