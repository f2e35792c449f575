"""The base class of masked losses that take statistics of what they are trained on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench import ranks
from llmrec.losses.base import Answers
from llmrec.losses.msl import MSL, n_choices
from llmrec.trie import Trie


class Observing(MSL):
    """A masked loss with sums over the rows of an optimizer step, of all micro-batches and ranks.

    ``per_row`` notes the sums of its rows, ``settle`` brings them to the host, and ``step`` of a subclass
    reads and forgets them.
    """

    def __init__(self, config: Any, trie: Trie, *, vocabulary: int, avt: float) -> None:
        """As every loss; nothing is noted yet."""
        super().__init__(config, trie, vocabulary=vocabulary, avt=avt)
        self._sums: Tensor | None = None

    def count(self, answers: Answers) -> int:
        """Rows with a choice, in every form."""
        return n_choices(answers, self.trie)

    def settle(self) -> None:
        """Bring the sums of this optimizer step to the host."""
        self._sums = None if self._sums is None else self._sums.cpu()

    @property
    def _observes(self) -> bool:
        """Whether calls belong to a training step."""
        return self.training and torch.is_grad_enabled()

    def _note(self, sums: Tensor) -> None:
        """Add to the sums of this optimizer step; float64, on the device."""
        # a new tensor each time: a step that is tried again goes back to the one before
        self._sums = sums if self._sums is None else self._sums + sums

    def _noted(self, size: int) -> list[float]:
        """The sums of this optimizer step over all ranks; every rank has to ask.

        Args:
            size: how many there are, for a rank that noted nothing.
        """
        mine = torch.zeros(size, dtype=torch.float64) if self._sums is None else self._sums.clone()
        summed: list[float] = ranks.summed(mine).tolist()
        return summed

    def _forget(self) -> None:
        """Begin the next optimizer step."""
        self._sums = None
