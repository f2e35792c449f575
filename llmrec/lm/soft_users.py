"""Users in the slots of a prompt: each history has a number, and each number a vector.

Axes: U users so far, Q queries, N items, F width of the recommender.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.types import BoolArray, Ragged
from llmrec.prompt import USER_SLOT, Prompt, Prompter

FIRST_USER = -3  # slots of -3 and below: user number 0, 1, 2 ...
Vectors = npt.NDArray[np.float32]
Encode = Callable[[Ragged], Vectors]


class Users:
    """Numbers users by their histories and computes their vectors, each once, many at a time.

    Items the recommender never saw are left out of what it reads, since their vectors are noise; a user
    of whom nothing is left gets the mean vector.

    Args:
        encode: vectors of histories, float32 [Q, F].
        seen_N: items the recommender was trained on, bool [N + 1].
        mean_F: vector of an average user, float32 [F].
    """

    def __init__(self, encode: Encode, seen_N: BoolArray, mean_F: Vectors) -> None:
        self._encode, self._seen_N, self._mean_F = encode, seen_N, mean_F
        self._number: dict[tuple[int, ...], int] = {}
        self._table_UF = torch.zeros(0, len(mean_F))

    def __len__(self) -> int:
        return len(self._number)

    def number(self, history: Iterable[int]) -> int:
        """The number of the user with this history, oldest item first."""
        known = tuple(int(item) for item in history if self._seen_N[item])
        return self._number.setdefault(known, len(self._number))

    def nobody(self, history: Iterable[int]) -> bool:
        """Whether no item of this history is known, so that its user gets the mean vector."""
        return not any(self._seen_N[item] for item in history)

    def table(self, device: torch.device) -> Tensor:
        """Vectors of all users so far by number, float32 [U, F]."""
        done = len(self._table_UF)
        if done < len(self):
            waiting = list(self._number)[done:]
            # all new users in one call, since the recommender encodes batches
            fresh_UF = np.tile(self._mean_F, (len(waiting), 1))
            some = [row for row, history in enumerate(waiting) if history]
            if some:
                fresh_UF[some] = self._encode(Ragged.of([waiting[row] for row in some]))
            fresh = torch.from_numpy(fresh_UF).to(device)
            self._table_UF = torch.cat([self._table_UF.to(device), fresh])
        return self._table_UF.to(device)


class Numbering(Prompter):
    """Prompts whose user slot holds the user's number, so that ids and slots are all a sequence needs.

    Attributes:
        users: numbers the users.
        most: latest items shown; None for all.
    """

    users: Users
    most: int | None = None

    def prompt(
        self, history: Sequence[int], *, training: bool = False, answer: int | None = None
    ) -> Prompt:
        """As ``Prompter.prompt``; the user vector is that of the whole history, shown or not.

        Args:
            history: item ids, oldest first.
            training: whether this is a training row.
            answer: tokens of the answer if known, else the answer budget is kept free.
        """
        shown = history[-(self.most or len(history)) :]
        made = super().prompt(shown, training=training, answer=answer)
        slot = FIRST_USER - self.users.number(history)
        return replace(made, slots=np.where(made.slots == USER_SLOT, slot, made.slots))
