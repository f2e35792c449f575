"""The interface between a training loop and a loss: sums over rows, counts, and state between steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from bench import ranks
from llmrec.lm.backbone import Backbone
from llmrec.losses.base import Answers, Loss, NotFinite
from llmrec.training.documents import Room, document_states, fed_tokens
from llmrec.training.packing import (
    Example,
    Targets,
    all_answers,
    lay_out,
    micro_batches,
    rows_end_to_end,
    states,
)
from llmrec.trie import Trie


class BatchLoss(Protocol):
    """A loss over training rows of any kind; the loop divides its sums by its counts."""

    @property
    def loss(self) -> Loss:
        """The registered loss."""

    @property
    def trie(self) -> Trie:
        """The catalogue's answers."""

    @property
    def shared(self) -> int:
        """Leading tokens that all prompts have in common, 0 where they are not split off."""

    @property
    def room(self) -> Room | None:
        """How long rows of tokens are, if rows stand end to end."""

    def right_answers(self, rows: Sequence[Any]) -> list[Example]:
        """These rows, each with its right answer only."""

    def parts(self, rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
        """The rows of an optimizer step, cut into micro-batches.

        Args:
            rows: of the step, on this rank; at least one.
            size: rows of a micro-batch at most.
        """

    def count(self, rows: Sequence[Any]) -> int:
        """The number that the sum over these rows is divided by."""

    def sum(self, lm: Backbone, rows: Sequence[Any]) -> Tensor:
        """Summed loss of a micro-batch, a scalar with gradients; the host waits for nothing.

        Args:
            lm: the model.
            rows: of the micro-batch.
        """

    def settle(self, lm: Backbone, loss: float) -> None:
        """Read what the micro-batches left on the device; called once a step, when its loss was read.

        Args:
            lm: the model.
            loss: of the step.

        Raises:
            NotFinite: the loss is not finite; names the training rows.
        """

    def step(self) -> None:
        """Called once after each optimizer step, on every rank."""

    def snapshot(self) -> dict[str, Any]:
        """All state, to undo a step that ran out of memory."""

    def restore(self, state: dict[str, Any]) -> None:
        """Undo what happened since ``snapshot``."""

    def state_dict(self) -> Mapping[str, float]:
        """What a resumed run needs, JSON-able."""

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over what ``state_dict`` returned."""

    def facts(self) -> Mapping[str, Any]:
        """Numbers about the training, for the row of results."""


class TokenBatchLoss:
    """A registered token loss over answers.

    Args:
        loss: the loss; its own state carries what it learns.
        trie: the catalogue's answers.
        shared: leading tokens that all prompts have in common, computed once per micro-batch; 0 for off.
        packed: tokens of a micro-batch whose rows stand end to end (``documents``); 0 for padded rows.
    """

    def __init__(self, loss: Loss, trie: Trie, *, shared: int = 0, packed: int = 0) -> None:
        self.loss, self.trie, self.shared = loss, trie, shared
        self.room = Room(packed, shared) if packed else None
        self.tokens = self.fresh = 0
        self._unread: list[tuple[Tensor, Answers, list[int]]] = []  # states, labels, training rows

    def right_answers(self, rows: Sequence[Example]) -> list[Example]:
        """The rows as they are."""
        return list(rows)

    def parts(self, rows: Sequence[Example], size: int) -> Iterator[list[Example]]:
        """The rows of an optimizer step as micro-batches of similar length.

        Args:
            rows: of the step.
            size: rows of a micro-batch at most.
        """
        if self.room is None:
            yield from micro_batches(rows, self.trie, size)
            return
        fed_B1 = Targets.of(rows, self.trie, self.loss).fed_B[:, None]
        size_B = fed_tokens([row.prompt for row in rows], fed_B1, self.shared)
        for part in self.room.parts(size_B, size):
            yield [rows[row] for row in part]

    def count(self, rows: Sequence[Example]) -> int:
        """Answer tokens that the mean is over, or answers under ``loss_norm: seq_sum_mean``."""
        return self.loss.divisor(all_answers(rows, self.trie), len(rows))

    def sum(self, lm: Backbone, rows: Sequence[Example]) -> Tensor:
        """Summed loss of these rows; exactly 0 where every answer token is the only valid one.

        Args:
            lm: the model.
            rows: of a micro-batch.
        """
        hidden_RD, answers = self._states(lm, rows)
        if len(answers) == 0:
            # a zero that depends on every parameter, so that all get a gradient whatever the row
            zero = torch.zeros((), device=lm.device)
            return sum(((p * 0).sum() for p in lm.trainable().values()), zero)
        self._unread.append((hidden_RD.detach(), answers, [row.number for row in rows]))
        return self.loss.per_row(hidden_RD, lm.head, answers).sum()

    def _states(self, lm: Backbone, rows: Sequence[Example]) -> tuple[Tensor, Answers]:
        """States that predict the wanted answer tokens of a micro-batch, and these tokens."""
        where: dict[str, Any] = {"pad": lm.pad_id, "device": lm.device}
        layout: Any
        if self.room is None:
            find: Any = states
            layout = lay_out(rows, self.trie, self.loss, shared=self.shared, **where)
        else:
            find = document_states
            layout = rows_end_to_end(rows, self.trie, self.loss, room=self.room, **where)
        self.tokens += layout.tokens
        self.fresh += layout.tokens
        if len(layout.answers) == 0:
            return torch.zeros(0), layout.answers
        layout = layout.to(lm.device)
        return find(lm, layout), layout.answers

    def settle(self, lm: Backbone, loss: float) -> None:
        """Let the loss read its statistics; say which rows are at fault where the loss is not finite.

        Args:
            lm: the model.
            loss: of the step.

        Raises:
            NotFinite: the loss is not finite; names the training rows.
        """
        self.loss.settle()
        unread, self._unread = self._unread, []
        if math.isfinite(loss):
            return
        for hidden_RD, answers, numbers in unread:
            try:
                with torch.no_grad():
                    self.loss(hidden_RD, lm.head, answers)
            except NotFinite as fault:
                raise fault.among(numbers) from None

    def step(self) -> None:
        """Let the loss update its temperature; count the tokens of the other ranks."""
        self.loss.step()
        fresh = torch.tensor(self.fresh, dtype=torch.float64)
        self.tokens += int(ranks.summed(fresh)) - self.fresh
        self.fresh = 0

    def snapshot(self) -> dict[str, Any]:
        """All state of the loss, and the tokens counted so far."""
        return {"tokens": self.tokens, "fresh": self.fresh, "loss": dict(vars(self.loss))}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo what happened since ``snapshot``."""
        self.tokens, self.fresh = state["tokens"], state["fresh"]
        self._unread = []
        vars(self.loss).update(state["loss"])

    def state_dict(self) -> Mapping[str, float]:
        """The loss's state and the tokens counted so far."""
        return {"tokens": self.tokens, **self.loss.state_dict()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over what ``state_dict`` returned."""
        self.tokens = int(state["tokens"])
        self.loss.load_state_dict({k: v for k, v in state.items() if k != "tokens"})

    def facts(self) -> Mapping[str, Any]:
        """The loss's numbers, and the tokens that went through the model in training."""
        return {"train_tokens": self.tokens, **self.loss.facts()}
