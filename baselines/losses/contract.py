"""Checks that every loss over items has to pass, on small random scores.

B rows, H history, M positions, N items, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from baselines.losses.base import ItemLoss, Trained
from bench.component import Check

B, H, N, D = 6, 5, 12, 4
CLOSE = 1e-5  # relative, of sums in fp32


class Table:
    """A scorer that is nothing but an item table."""

    def __init__(self, item_ND: Tensor) -> None:
        self.item_ND = item_ND.requires_grad_()

    def logits(self, state_MD: Tensor) -> Tensor:
        """Scores of the items 1..N."""
        return state_MD @ self.item_ND[1:].T

    def item_table(self) -> Tensor:
        """Vectors of the items, row 0 for padding."""
        return self.item_ND


class _Sample:
    """One batch of random states with targets, negatives as the loss draws them, and some padding."""

    def __init__(self, kind: type[ItemLoss], dtype: torch.dtype, *, scale: float = 1.0) -> None:
        chance = torch.Generator().manual_seed(0)
        history_BH = torch.randint(1, N + 1, (B, H), generator=chance)
        history_BH[0, 2:], history_BH[4, 4:] = 0, 0
        target_B = torch.randint(1, N + 1, (B,), generator=chance)
        self.loss = kind(count_N=torch.randint(0, 9, (N,), generator=chance))
        self.grid = kind.positions == "all"
        shape = (B, H) if self.grid else (B,)
        self.target = torch.randint(1, N + 1, shape, generator=chance) if self.grid else target_B
        self.state = scale * torch.randn(*shape, D, generator=chance, dtype=torch.float64)
        self.state = self.state.to(dtype).requires_grad_()
        self.table = Table(torch.randn(N + 1, D, generator=chance, dtype=torch.float64).to(dtype))
        self.kept = history_BH > 0 if self.grid else None
        if self.kept is not None:
            self.target = self.target.masked_fill(~self.kept, 0)
        self.asked = (history_BH, target_B, N)
        self.negative = self.draw(0)

    def draw(self, seed: int) -> Tensor | None:
        """What the loss draws for the batch."""
        return self.loss.draw(*self.asked, np.random.default_rng(seed))

    def part(self, row: Tensor) -> Trained:
        """Some of the rows, in this order."""
        by_row = self.negative is not None and len(self.negative) == B
        negative = self.negative[row] if by_row and self.negative is not None else self.negative
        kept = None if self.kept is None else self.kept[row]
        return Trained(self.state[row], self.target[row], self.table, negative, kept)

    def whole(self) -> Trained:
        """All rows."""
        return self.part(torch.arange(B))


def questions(kind: type[ItemLoss]) -> Mapping[str, Check]:
    """The checks of a loss over items, by name; see ``bench.component``."""
    return {
        "is one finite number, the same in fp32 and fp64": lambda: _value(kind),
        "stays finite with its gradients for scores in the hundreds": lambda: _large(kind),
        "has no gradient at padding": lambda: _padding(kind),
        "does not depend on the order of the rows": lambda: _order(kind),
        "is the mean of its micro-batches": lambda: _parts(kind),
        "draws known items, the same under the same seed": lambda: _draws(kind),
    }


def _value(kind: type[ItemLoss]) -> str | None:
    single, double = (_Sample(kind, dtype) for dtype in (torch.float32, torch.float64))
    found, truth = single.loss(single.whole()), double.loss(double.whole())
    if found.shape != () or not torch.isfinite(found):
        return f"its value is {found}"
    return _differ(found.item(), truth.item())


def _large(kind: type[ItemLoss]) -> str | None:
    sample = _Sample(kind, torch.float32, scale=200.0)
    loss = sample.loss(sample.whole())
    gradients = _gradients(sample, loss)
    if torch.isfinite(loss) and all(torch.isfinite(g).all() for g in gradients):
        return None
    return f"the loss is {loss.item()}, its largest gradient {max(g.abs().max().item() for g in gradients)}"


def _padding(kind: type[ItemLoss]) -> str | None:
    sample = _Sample(kind, torch.float32)
    state, table = _gradients(sample, sample.loss(sample.whole()))
    if not (state.any() and table[1:].any()):
        return "nothing has a gradient"
    if sample.kept is not None and state[~sample.kept].any():
        return "states at padding have one"
    if table[0].any() and not kind.trains_padding:
        return "the vector of the padding row has one"
    return None


def _order(kind: type[ItemLoss]) -> str | None:
    sample = _Sample(kind, torch.float64)
    turned = sample.part(torch.arange(B).flip(0))
    return _differ(sample.loss(turned).item(), sample.loss(sample.whole()).item())


def _parts(kind: type[ItemLoss]) -> str | None:
    sample = _Sample(kind, torch.float64)
    parts = [sample.part(row) for row in torch.arange(B).split(4)]
    total = sum(sample.loss(part).item() * len(part) for part in parts)
    return _differ(total / len(sample.whole()), sample.loss(sample.whole()).item())


def _draws(kind: type[ItemLoss]) -> str | None:
    sample = _Sample(kind, torch.float32)
    first, again, other = (sample.draw(seed) for seed in (0, 0, 1))
    if first is None or again is None or other is None:
        return None
    if not torch.equal(first, again):
        return "it drew other items under the same seed"
    if torch.equal(first, other):
        return "it drew the same items under another seed"
    return None if 1 <= first.min() and first.max() <= N else f"it drew {first.tolist()}"


def _gradients(sample: _Sample, loss: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, [sample.state, sample.table.item_ND])


def _differ(one: float, two: float) -> str | None:
    return None if abs(one - two) <= CLOSE * max(1.0, abs(two)) else f"{one} and {two}"
