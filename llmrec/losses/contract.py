"""Checks that every loss over answer tokens has to pass, on a small random trie.

R rows, D width, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bench.component import Check
from llmrec.lm.head import Head
from llmrec.losses.base import Answers, Loss
from llmrec.trie import Trie

V, D, N_ANSWERS = 40, 7, 20
SINGLE, DOUBLE = 1e-4, 1e-9  # relative, in fp32 and in fp64


class _Sample:
    """Random states for the answers of a trie with equal titles and titles that begin others."""

    def __init__(
        self,
        kind: type[Loss],
        dtype: torch.dtype = torch.float64,
        *,
        scale: float = 1.0,
        trainable: bool = False,
    ) -> None:
        chance = np.random.default_rng(0)
        paths = [[*chance.integers(1, 12, chance.integers(0, 6)).tolist(), 0] for _ in range(60)]
        self.trie = Trie.of([*paths, [0], paths[0], [3, 3, 3, 0], [3, 3, 0]], 0)
        self.answers = Answers.of(self.trie, chance.integers(0, self.trie.n_leaves, N_ANSWERS))
        hidden_RD = scale * chance.standard_normal((len(self.answers), D))
        self.hidden_RD = torch.as_tensor(hidden_RD, dtype=dtype).requires_grad_()
        weight_VD = torch.as_tensor(chance.standard_normal((V, D)), dtype=dtype)
        self.head = Head(weight_VD.requires_grad_(trainable), None, 1.0, None)
        self.loss = kind(None, self.trie, vocabulary=V, avt=8.0)
        self.loss.observe_targets(chance.integers(0, self.trie.n_leaves, 3 * N_ANSWERS))

    def of(self, row_R: Tensor) -> Tensor:
        """The summed loss of some rows."""
        return self.loss(self.hidden_RD[row_R], self.head, self.answers.take(row_R))

    def all_rows(self) -> Tensor:
        """The numbers of all rows."""
        return torch.arange(len(self.answers))


def questions(kind: type[Loss]) -> Mapping[str, Check]:
    """The checks of a loss over answer tokens, by name; see ``bench.component``."""
    return {
        "equals its plain form under autograd in fp64, value and gradient": lambda: _plain(kind),
        "stays finite with its gradient for logits in the hundreds": lambda: _large(kind),
        "has no gradient at rows that it says need not be reached": lambda: _unreached(kind),
        "does not depend on the order of the rows": lambda: _order(kind),
        "is the sum of its micro-batches, in value, count and divisor": lambda: _parts(kind),
        "goes on from a saved state as if never stopped": lambda: _resumed(kind),
    }


def _plain(kind: type[Loss]) -> str | None:
    fast, plain = _Sample(kind, torch.float32), _Sample(kind, trainable=True)
    found, truth = fast.of(fast.all_rows()), plain.of(plain.all_rows())
    if found.shape != () or not torch.isfinite(found):
        return f"its value is {found}"
    mine, theirs = _gradient(fast, found).double(), _gradient(plain, truth)
    if (mine - theirs).abs().max() > SINGLE * theirs.abs().max():
        return f"gradients differ by up to {float((mine - theirs).abs().max())}"
    return _differ(found.item(), truth.item(), SINGLE)


def _large(kind: type[Loss]) -> str | None:
    sample = _Sample(kind, torch.float32, scale=200.0)
    loss = sample.of(sample.all_rows())
    gradient = _gradient(sample, loss)
    fine = torch.isfinite(loss) and torch.isfinite(gradient).all()
    return None if fine else f"the loss is {loss.item()}, a gradient {float(gradient.sum())}"


def _unreached(kind: type[Loss]) -> str | None:
    sample = _Sample(kind)
    gradient = _gradient(sample, sample.of(sample.all_rows()))
    if not gradient.any():
        return "nothing has a gradient"
    idle_R = ~sample.loss.matters(sample.answers)
    return "rows that need not be reached have one" if gradient[idle_R].any() else None


def _order(kind: type[Loss]) -> str | None:
    sample = _Sample(kind)
    turned, whole = (
        sample.of(rows).item() for rows in (sample.all_rows().flip(0), sample.all_rows())
    )
    return _differ(turned, whole, DOUBLE)


def _parts(kind: type[Loss]) -> str | None:
    sample = _Sample(kind)
    parts, rows = sample.all_rows().split(17), sample.answers
    taken = [rows.take(part) for part in parts]
    if sum(map(sample.loss.count, taken)) != sample.loss.count(rows):
        return "counts do not add up"
    answers = [len(part.row_R.unique()) for part in taken]
    divided = sum(map(sample.loss.divisor, taken, answers))
    if divided != sample.loss.divisor(rows, sum(answers)):
        return "divisors do not add up"
    total = sum(sample.of(part).item() for part in parts)
    return _differ(total, sample.of(sample.all_rows()).item(), DOUBLE)


def _resumed(kind: type[Loss]) -> str | None:
    one, other = _Sample(kind), _Sample(kind)
    for _ in range(3):
        one.of(one.all_rows())
        one.loss.step()
    other.loss.load_state_dict(json.loads(json.dumps(one.loss.state_dict())))
    for sample in (one, other):
        sample.of(sample.all_rows())
        sample.loss.step()
    return _differ(other.of(other.all_rows()).item(), one.of(one.all_rows()).item(), 0.0)


def _gradient(sample: _Sample, loss: Tensor) -> Tensor:
    return torch.autograd.grad(loss, sample.hidden_RD)[0]


def _differ(one: float, two: float, tolerance: float) -> str | None:
    return None if abs(one - two) <= tolerance * max(1.0, abs(two)) else f"{one} and {two}"
