"""The base class of losses over scores of all items.

B rows of a batch, H history, M trained positions, N items, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from bench import component
from bench.method import configure

Positions = Literal["last", "all", "once"]


class Scorer(Protocol):
    """A model that scores all items from a state."""

    def logits(self, state_MD: Tensor) -> Tensor:
        """Scores of the items 1..N, [M, N]."""

    def item_table(self) -> Tensor:
        """Vectors that states are compared with, [N + 1, D]; row 0 is padding."""


class Trained:
    """The positions of a batch that a loss is taken over: M of them, or a grid [B, H] for ``all``.

    Attributes:
        state_MD: the model's state at each of them.
        target_M: the item that followed, 1..N; 0 at positions that do not count.
        scorer: the model.
        negative: items that did not follow, as the loss's ``draw`` gave them ([M] where that is one for
            each position); None where nothing is drawn.
        kept_M: False at positions of a grid that do not count (padding); None where all do.
    """

    def __init__(
        self,
        state_MD: Tensor,
        target_M: Tensor,
        scorer: Scorer,
        negative: Tensor | None = None,
        kept_M: Tensor | None = None,
    ) -> None:
        self.state_MD, self.target_M, self.scorer = state_MD, target_M, scorer
        self.negative, self.kept_M = negative, kept_M

    def __len__(self) -> int:
        return len(self.target_M) if self.kept_M is None else int(self.kept_M.sum())

    def mean(self, loss_M: Tensor) -> Tensor:
        """The mean of a loss over the positions that count, a scalar."""
        return (loss_M if self.kept_M is None else loss_M[self.kept_M]).mean()

    @cached_property
    def logit_MN(self) -> Tensor:
        """Scores of the items 1..N; computed when first asked for, and once."""
        return self.scorer.logits(self.state_MD)

    @property
    def drawn(self) -> Tensor:
        """The negatives of a loss that draws some."""
        assert self.negative is not None, "the loss was given no negatives"
        return self.negative


class ItemLoss(component.Loss, ABC):
    """A loss over scores of items: called with trained positions, gives their mean, a scalar.

    Class attributes:
        positions: which positions of a row it trains. ``last``: the end of the history, where the row's
            target follows. ``all``: every item of the history; padding comes along and does not count.
            ``once``: those items that together hold every interaction of the training rows once.
        trains_padding: whether the vector of the padding row gets a gradient.
    """

    kind: ClassVar[component.Kind] = "item"
    contract: ClassVar[str] = "baselines.losses.contract"
    positions: ClassVar[Positions] = "last"
    trains_padding: ClassVar[bool] = False

    def __init__(self, config: Any = None, *, count_N: Tensor | None = None) -> None:
        """Keep what a loss may need.

        Args:
            config: an instance of Config, a mapping of options, or None for the defaults.
            count_N: how often each of the items 1..N is the target of a training row; None where
                nothing is trained.
        """
        self.config = configure(type(self), config)
        self.count_N = count_N

    @abstractmethod
    def __call__(self, trained: Trained) -> Tensor:
        """The mean over the trained positions, a scalar."""

    def draw(
        self, history_BH: Tensor, target_B: Tensor, n_items: int, rng: np.random.Generator
    ) -> Tensor | None:
        """The negatives of a batch: [B, H] one for each position, [B] one for each row, or one set for all.

        Args:
            history_BH: histories, left-aligned, padded with 0.
            target_B: what followed them.
            n_items: N.
            rng: where chance comes from.
        """
        return None


def other_items(item: Tensor, n_items: int, rng: np.random.Generator) -> Tensor:
    """One uniform draw for each entry of ``item`` among the other items, same shape, int64.

    Args:
        item: items 1..N, of any shape.
        n_items: N.
        rng: source of the draws.
    """
    draw = torch.from_numpy(rng.integers(1, max(n_items, 2), tuple(item.shape)))
    return (draw + (draw >= item.cpu())).clamp_(max=n_items).to(item.device)


def outside_window(window_BL: Tensor, width: int, n_items: int, rng: np.random.Generator) -> Tensor:
    """Uniform draws among the items that are not in the row's window, int64 [B, width].

    Rejected entries are drawn again; after 50 rounds (a window that holds all items) they stay.

    Args:
        window_BL: items of each row, padded with 0.
        width: draws for each row.
        n_items: N.
        rng: source of the draws.
    """
    window_BL = window_BL.cpu()
    draw = torch.from_numpy(rng.integers(1, n_items + 1, (len(window_BL), width)))
    for _ in range(50):
        clash = (draw[:, :, None] == window_BL[:, None, :]).any(-1)
        if not clash.any():
            break
        draw[clash] = torch.from_numpy(rng.integers(1, n_items + 1, int(clash.sum())))
    return draw
