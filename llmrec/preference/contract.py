"""Checks that every preference loss has to pass, on random log-probabilities.

B rows, J answers a row (the positive first).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bench.component import Check
from llmrec.preference.base import PreferenceLoss
from llmrec.trie import Trie

B, J = 8, 4
SINGLE, DOUBLE = 1e-5, 1e-12  # relative, in fp32 and in fp64


def questions(kind: type[PreferenceLoss]) -> Mapping[str, Check]:
    """The checks of a preference loss, by name; see ``bench.component``."""
    return {
        "gives one finite number a row, the same in fp32 and fp64": lambda: _value(kind),
        "stays finite with its gradient for rewards in the hundreds": lambda: _large(kind),
        "falls with the positive's reward and with no negative's": lambda: _direction(kind),
        "depends on rewards alone: a reference that moves with the policy changes nothing": (
            lambda: _reference(kind)
        ),
        "takes each row on its own, in any order": lambda: _rows(kind),
        "does not depend on the order of the negatives": lambda: _negatives(kind),
    }


def _made(kind: type[PreferenceLoss]) -> PreferenceLoss:
    return kind(None, Trie.of([[1, 0], [2, 0]], 0), vocabulary=3, avt=2.0)


def _log_probs(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(0)
    policy, reference = (
        -scale * torch.rand(B, J, generator=chance, dtype=torch.float64) for _ in range(2)
    )
    return policy.to(dtype).requires_grad_(), reference.to(dtype)


def _value(kind: type[PreferenceLoss]) -> str | None:
    loss = _made(kind)
    found_B, truth_B = (
        loss.preference(*_log_probs(dtype)) for dtype in (torch.float32, torch.float64)
    )
    if found_B.shape != (B,) or not torch.isfinite(found_B).all():
        return f"its value is {found_B}"
    return _differ(found_B.double(), truth_B, SINGLE)


def _large(kind: type[PreferenceLoss]) -> str | None:
    policy, reference = _log_probs(torch.float32, scale=500.0)
    gradient = torch.autograd.grad(_made(kind).preference(policy, reference).sum(), policy)[0]
    return None if torch.isfinite(gradient).all() else f"a gradient is {gradient.tolist()}"


def _direction(kind: type[PreferenceLoss]) -> str | None:
    policy, reference = _log_probs()
    gradient = torch.autograd.grad(_made(kind).preference(policy, reference).sum(), policy)[0]
    if (gradient[:, 0] >= 0).any():
        return "it does not fall where the positive's reward rises"
    return "it falls where a negative's reward rises" if (gradient[:, 1:] < 0).any() else None


def _reference(kind: type[PreferenceLoss]) -> str | None:
    loss, (policy, reference) = _made(kind), _log_probs()
    moved = loss.preference(policy + 1.5, reference + 1.5)
    return _differ(moved, loss.preference(policy, reference), DOUBLE)


def _rows(kind: type[PreferenceLoss]) -> str | None:
    loss, (policy, reference) = _made(kind), _log_probs()
    whole_B = loss.preference(policy, reference)
    turned = torch.cat(
        [loss.preference(p, r) for p, r in _parts(policy.flip(0), reference.flip(0))]
    )
    return _differ(turned.flip(0), whole_B, DOUBLE)


def _parts(policy: Tensor, reference: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(policy.split(3), reference.split(3), strict=True))


def _negatives(kind: type[PreferenceLoss]) -> str | None:
    loss, (policy, reference) = _made(kind), _log_probs()
    order = [0, *range(J - 1, 0, -1)]
    turned = loss.preference(policy[:, order], reference[:, order])
    return _differ(turned, loss.preference(policy, reference), DOUBLE)


def _differ(one: Tensor, two: Tensor, tolerance: float) -> str | None:
    if torch.allclose(one, two, rtol=tolerance, atol=tolerance):
        return None
    return f"{one.tolist()} and {two.tolist()}"
