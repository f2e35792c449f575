"""Distillation from a language model's ranking into a small recommender (DLLM2Rec, RecSys 2024).

Importance-aware ranking distillation: each of the teacher's first K items is a positive whose weight says
where it stood (position), how sure the teacher was (confidence), and whether the student agrees
(consistency). Plain functions; the modules that use them are in ``_student``.

Axes: B batch, K teacher's items, N items of the catalogue (column j is item j + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

FLOOR = 1e-8  # the authors' floor under confidence and consistency
Negative = Literal["code", "correct", "none"]


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How the three parts make one weight.

    Attributes:
        position, confidence, consistency: the paper's gammas.
        beta: exp(-k / beta) is the position part at rank k.
        per: confidence of each ``candidate`` (code) or of the whole row by its ``target`` (paper).
    """

    position: float = 0.3
    confidence: float = 0.5
    consistency: float = 0.1
    beta: float = 1.0
    per: Literal["candidate", "target"] = "candidate"


def position_part(k: int, beta: float, device: torch.device | str = "cpu") -> Tensor:
    """Weight of each rank: exp(-k / beta) for k = 1..K, normalised to a sum of 1, [K].

    For K = 5 and beta = 1 it is .636 .234 .086 .032 .012.

    Args:
        k: K.
        beta: how slowly it falls.
        device: where it is needed.
    """
    return (-torch.arange(1, k + 1, device=device) / beta).softmax(0)


def confidence_part(distance_BK: Tensor) -> Tensor:
    """exp(-d) + 1e-8, normalised over the row; distances >= 0, smaller is surer, [B, K].

    An infinite distance (no such item) gets the floor.
    """
    weight_BK = torch.exp(-distance_BK) + FLOOR
    return weight_BK / weight_BK.sum(1, keepdim=True)


def row_confidence(distance_T: Tensor) -> Tensor:
    """The paper's confidence: exp(-d to the true target) of each row, scaled to a mean of 1, [T].

    Over all rows of the teacher at once and as a softmax: distances of a language model are so large that
    exp(-d) itself is 0. Rows with an infinite distance have no teacher: they get 0 and do not count.
    """
    known_T = distance_T.isfinite()
    sure_T = torch.zeros_like(distance_T)
    sure_T[known_T] = (-distance_T[known_T].double()).softmax(0).to(sure_T) * known_T.sum()
    return sure_T


def consistency_part(item_BK: Tensor, logit_BN: Tensor) -> Tensor:
    """1 where the teacher's item is among the student's own first K, else 0, plus 1e-8; no gradient.

    Args:
        item_BK: teacher's items 1..N, 0 where there is none.
        logit_BN: the student's scores.
    """
    top_BK = logit_BN.detach().topk(min(item_BK.shape[1], logit_BN.shape[1])).indices + 1
    return (item_BK[:, :, None] == top_BK[:, None, :]).any(-1).to(logit_BN.dtype) + FLOOR


def importance(
    rule: Importance,
    item_BK: Tensor,
    distance_BK: Tensor,
    logit_BN: Tensor,
    sure_B: Tensor | None = None,
) -> Tensor:
    """Weight of each teacher's item, [B, K]; no gradient.

    With a confidence per candidate every row sums to 1, as in the released code. A confidence per row would
    cancel in that division, so there it is left out.

    Args:
        rule: the gammas.
        item_BK: teacher's items 1..N, 0 where there is none (weight 0).
        distance_BK: their distances.
        logit_BN: the student's scores.
        sure_B: confidence of each row, from ``row_confidence``, where the rule is per ``target``.
    """
    there_BK = (item_BK > 0).to(logit_BN.dtype)
    parts_BK = rule.position * position_part(item_BK.shape[1], rule.beta, item_BK.device)
    parts_BK = parts_BK + rule.consistency * consistency_part(item_BK, logit_BN)
    if rule.per == "target":
        assert sure_B is not None, "confidence per target needs that of each row"
        return (parts_BK + rule.confidence * sure_B[:, None]) * there_BK
    weight_BK = (parts_BK + rule.confidence * confidence_part(distance_BK)) * there_BK
    return weight_BK / weight_BK.sum(1, keepdim=True).clamp(min=FLOOR)


def row_scale(distance_TK: Tensor) -> tuple[Tensor, Tensor]:
    """What (d - low) / scale needs: the smallest distance of each row, and the median of d_K - d_1 (ours).

    On raw distances of a language model exp(-d) is below the floor almost everywhere, so the confidence
    degenerates to a flag for an exact match.

    Args:
        distance_TK: distances, infinite where there is no item.

    Returns:
        low_T (0 for a row without items) and scale (a scalar above 0).
    """
    finite_TK = distance_TK.isfinite()
    some_T = finite_TK.any(1)
    low_T = torch.where(some_T, distance_TK.min(1).values, 0.0)
    high_T = distance_TK.masked_fill(~finite_TK, -torch.inf).max(1).values
    span_T = (high_T - low_T)[some_T]
    scale = span_T.median() if len(span_T) else distance_TK.new_tensor(1.0)
    return low_T, scale.clamp(min=FLOOR)


def ranking_distillation(
    logit_BN: Tensor,
    item_BK: Tensor,
    weight_BK: Tensor,
    negative_B: Tensor,
    term: Negative,
) -> Tensor:
    """sum_k mean_b w_bk [ -log s(y_k) + negative term ], a scalar.

    Args:
        logit_BN: the student's scores y.
        item_BK: teacher's items 1..N, 0 where there is none.
        weight_BK: from ``importance``; rows without a teacher have weight 0.
        negative_B: one negative item a row, 1..N.
        term: ``code`` is -log s(1 - y_n), as released; ``correct`` is -log s(-y_n); ``none`` is the paper's.
    """
    positive_BK = logit_BN.gather(1, (item_BK - 1).clamp(min=0))
    loss_BK = F.softplus(-positive_BK)
    if term != "none":
        negative_B1 = logit_BN.gather(1, negative_B[:, None] - 1)
        loss_BK = loss_BK + F.softplus(negative_B1 - float(term == "code"))
    return (weight_BK * loss_BK).mean(0).sum()


def robust_distillation(
    logit_BN: Tensor, item_BK: Tensor, weight_BK: Tensor, propensity_N: Tensor, beta: float
) -> Tensor:
    """DROS's robust term with the teacher's items as targets: sum_k mean_b w_bk DROS_bk, a scalar.

    Args:
        logit_BN: the student's scores.
        item_BK: teacher's items 1..N, 0 where there is none.
        weight_BK: from ``importance``.
        propensity_N: of the items 1..N, see ``baselines.losses.dro``.
        beta: temperature of the robust term.
    """
    own_BK = (item_BK - 1).clamp(min=0)
    total = logit_BN.new_zeros(())
    for own_B1, weight_B in zip(own_BK.T[:, :, None], weight_BK.T, strict=True):
        error_BN = logit_BN.float().scatter_add(1, own_B1, -torch.ones_like(own_B1).float())
        term_B = (propensity_N * error_BN.square() / beta).logsumexp(1)
        total = total + (weight_B * term_B).mean()
    return total
