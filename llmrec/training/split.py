"""The two parts of the language-modelling loss and what can be read off the logits beside them.

``-log P(y) = -log sum_{z valid} P(z) - log (P(y) / sum_{z valid} P(z))`` (MSL, section 3.1): the first part
raises the valid tokens above the others, the second the target above the other valid ones, and only the
second is the masked softmax. R answer tokens, V vocabulary, S of them have a choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

NEVER = float("-inf")
WEIGHTS = 64  # quantiles kept of the sorted weights, ends included
EDGES = 33  # of the histogram of logits, from -4 to 4 standard deviations
SPAN = 4.0
SMALLEST = 4  # valid tokens of a row whose logits enter the histogram


class Parts(NamedTuple):
    """Both parts of the loss of each row, with gradients, [R]."""

    first_R: Tensor
    second_R: Tensor


def split(logits_RV: Tensor, valid_RV: Tensor, token_R: Tensor) -> Parts:
    """The two parts of the negative log-likelihood of each label; their sum is LML's loss.

    Args:
        logits_RV: of the whole vocabulary.
        valid_RV: True where a token continues some title; at least one a row.
        token_R: labels, each valid.
    """
    whole_R = logits_RV.logsumexp(1)
    valid_R = logits_RV.masked_fill(~valid_RV, NEVER).logsumexp(1)
    label_R = logits_RV.gather(1, token_R[:, None])[:, 0]
    return Parts(whole_R - valid_R, valid_R - label_R)


def gradient_norm(loss: Tensor, parameters: Iterable[Tensor]) -> float:
    """Euclidean norm of the gradient of a loss over all parameters; their ``grad`` is left alone.

    Args:
        loss: a scalar; its graph is kept.
        parameters: those that are trained.
    """
    found = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True)
    squares = [part.double().square().sum() for part in found if part is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def weights(logits_RV: Tensor, valid_RV: Tensor, token_R: Tensor, tau: float) -> dict[str, Tensor]:
    """1 - P of each row with a choice, which is what its gradient is weighted by (MSL, Eq. 10), [S].

    Args:
        logits_RV: of the whole vocabulary.
        valid_RV: True where a token is valid.
        token_R: labels.
        tau: temperature in force.

    Returns:
        ``whole`` with P over the vocabulary, ``valid`` with P over the valid tokens, ``tau`` the latter at
        the temperature in force.
    """
    choice_R = valid_RV.sum(1) > 1
    logits_SV, valid_SV = logits_RV[choice_R], valid_RV[choice_R]
    label_S1 = token_R[choice_R][:, None]
    masked_SV = logits_SV.masked_fill(~valid_SV, NEVER)
    by_name = {"whole": logits_SV, "valid": masked_SV, "tau": masked_SV / tau}
    return {k: 1 - v.softmax(1).gather(1, label_S1)[:, 0] for k, v in by_name.items()}


def quantiles(values_S: Tensor) -> list[float]:
    """The values in ascending order, thinned to ``WEIGHTS`` evenly spaced ones."""
    ordered = values_S.sort().values
    place = torch.linspace(0, len(ordered) - 1, min(WEIGHTS, len(ordered))).round().long()
    return [round(value, 5) for value in ordered[place].tolist()]


class Moments(NamedTuple):
    """What Eq. 12 is made of: means over rows with a choice, taken within each row.

    Attributes:
        gap: label's logit minus the mean valid logit.
        variance: of the valid logits.
    """

    gap: float
    variance: float


def moments(logits_RV: Tensor, valid_RV: Tensor, token_R: Tensor) -> Moments:
    """Mean gap and mean variance of the valid logits, as the adaptive temperature takes them.

    Args:
        logits_RV: of the whole vocabulary.
        valid_RV: True where a token is valid.
        token_R: labels.
    """
    mean_R, variance_R, size_R = _within(logits_RV, valid_RV)
    gap_R = logits_RV.gather(1, token_R[:, None])[:, 0] - mean_R
    choice_R = size_R > 1
    return Moments(float(gap_R[choice_R].mean()), float(variance_R[choice_R].mean()))


def histogram(logits_RV: Tensor, valid_RV: Tensor) -> dict[str, float | list[int]]:
    """How the valid logits of a row lie about their mean, in standard deviations of the row.

    Args:
        logits_RV: of the whole vocabulary.
        valid_RV: True where a token is valid; rows with fewer than ``SMALLEST`` are left out.

    Returns:
        ``count`` of each of the equal bins from -``SPAN`` to ``SPAN`` (its ends take what lies beyond), and
        of all values ``skewness`` and ``kurtosis``, which for a normal distribution are 0 and 3.
    """
    mean_R, variance_R, size_R = _within(logits_RV, valid_RV)
    wide_R = (size_R >= SMALLEST) & (variance_R > 0)
    scaled_RV = (logits_RV - mean_R[:, None]) / variance_R.clamp(min=1e-30).sqrt()[:, None]
    values = scaled_RV[wide_R][valid_RV[wide_R]].double()
    count = torch.histc(values.clamp(-SPAN, SPAN), EDGES - 1, -SPAN, SPAN)
    third, fourth = (float(values.pow(power).mean()) if len(values) else 0.0 for power in (3, 4))
    return {
        "count": [int(n) for n in count.tolist()],
        "skewness": round(third, 4),
        "kurtosis": round(fourth, 4),
    }


def _within(logits_RV: Tensor, valid_RV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, population variance and number of the valid logits of each row, [R]."""
    size_R = valid_RV.sum(1)
    mean_R = logits_RV.masked_fill(~valid_RV, 0.0).sum(1) / size_R
    spread_RV = (logits_RV - mean_R[:, None]).masked_fill(~valid_RV, 0.0)
    return mean_R, spread_RV.square().sum(1) / size_R, size_R
