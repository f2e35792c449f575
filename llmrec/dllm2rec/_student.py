"""The student of DLLM2Rec: the suite's SASRec with the teacher's title vectors in its item table.

Item j is read as ``b_j + eta (P z_j + c)``: b the ordinary embedding, z the teacher's text embedding of the
title, P and c learned. After training the sum is folded into one table, so serving is plain SASRec.

Axes: B batch, H history, K teacher's items, T teacher's rows, W training rows, N items, D and E widths.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines import _recbole as rb  # noqa: PLC2701 the suite's own SASRec
from baselines.causal import NEGATIVE, RobustModel
from baselines.losses.base import outside_window
from baselines.losses.bce_last import BCELast
from llmrec.dllm2rec._distill import (
    Importance,
    importance,
    ranking_distillation,
    robust_distillation,
    row_confidence,
    row_scale,
)
from llmrec.dllm2rec._teacher_files import Teacher


class StudentModel(RobustModel):
    """SASRec that learns from targets and from a teacher's rankings.

    With ``eta`` and ``lambda_d`` 0 nothing of the teacher is touched and no chance is drawn for it, so a
    training is SASRec's bit for bit.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        for key in ("eta", "lambda_d", "ed_apply", "neg_term", "exclude_target"):
            setattr(self, key, config[key])
        self.rule = Importance(**config["importance"])
        self.register_buffer("extra_ND", torch.zeros(self.n_items, self.hidden_size))
        width = config["teacher_width"]
        self.project = torch.nn.Linear(width, self.hidden_size) if width and self.eta else None

    def attach(self, teacher: Teacher, n_rows: int, *, rescale: bool, k: int) -> None:
        """Give the module what it learns from; kept out of its state.

        Args:
            teacher: its artefacts; items without a title have a vector of zeros.
            n_rows: W.
            rescale: whether distances are rescaled by row.
            k: how many of the teacher's items to use; the others take no part in the rescaling either.
        """
        device = self.item_embedding.weight.device

        def on_device(array: Any) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        item_TK = on_device(teacher.item_TK[:, :k].astype(np.int64))
        distance_TK = on_device(teacher.distance_TK[:, :k]).masked_fill(item_TK == 0, torch.inf)
        target_T = on_device(teacher.target_distance_T).nan_to_num(torch.inf)
        if rescale:
            low_T, scale = row_scale(distance_TK)
            distance_TK = (distance_TK - low_T[:, None]) / scale
            target_T = (target_T - low_T).clamp(min=0) / scale
        self.item_TK, self.distance_TK = item_TK, distance_TK.float()
        self.sure_T = row_confidence(target_T).float()
        place_W = np.full(n_rows, -1, np.int64)
        place_W[teacher.row_T] = np.arange(len(teacher.row_T))
        self.place_W = on_device(place_W)
        self.point_ND = on_device(teacher.point_ND)
        self.has_text_N1 = (self.point_ND != 0).any(1, keepdim=True).float()

    def enrichment(self) -> Tensor | None:
        """The part ``eta (P z_j + c)`` of each item, [N + 1, D]; 0 without a title, None if eta is 0."""
        if not self.eta:
            return None
        if self.project is None:
            return self.extra_ND
        return self.eta * self.project(self.point_ND) * self.has_text_N1

    def fold(self) -> None:
        """Fold the learned map into one item table, once training is over."""
        with torch.no_grad():
            extra_ND = self.enrichment()
            if extra_ND is not None:
                self.extra_ND.copy_(extra_ND)
        self.project = None

    def input_table(self) -> Tensor:
        """Vectors that stand for the items of a history, [N + 1, D]."""
        extra_ND = self.enrichment()
        own_ND = super().input_table()
        return own_ND if extra_ND is None else own_ND + extra_ND

    def item_table(self) -> Tensor:
        """Vectors that user vectors are compared with, [N + 1, D]."""
        if self.ed_apply == "input" or not self.eta:
            return super().item_table()
        return self.input_table()

    def draw(self, batch: Any, dataset: Any, rng: np.random.Generator) -> Any:
        """Add the negatives that the losses need, outside the row's window."""
        if self.item_loss.positions != "last":
            return super().draw(batch, dataset, rng)
        if self.lambda_d or isinstance(self.item_loss, BCELast):
            window_BL = torch.cat([batch[rb.HISTORY], batch[rb.ITEM][:, None]], 1)
            draw_B1 = outside_window(window_BL, 1, self.n_items - 1, rng)
            batch[NEGATIVE] = draw_B1[:, 0].to(window_BL.device)
        return batch

    def calculate_loss(self, batch: Any) -> Tensor:
        """Recommendation loss plus ``lambda_d`` times the distillation, a scalar."""
        loss, last = self.loss_and_last(batch)
        if not self.lambda_d:
            return loss
        return loss + self.lambda_d * self.distillation(last.logit_MN, batch)

    def distillation(self, logit_BN: Tensor, batch: Any) -> Tensor:
        """Ranking distillation of a batch, a scalar; rows without a teacher have weight 0.

        Args:
            logit_BN: the student's scores.
            batch: RecBole's Interaction.
        """
        item_BK, weight_BK = self.teacher_weights(logit_BN, batch)
        negative = batch[NEGATIVE]
        if negative.ndim == 2:  # one for each position; the last one belongs to the target
            negative = negative.gather(1, batch[rb.LENGTH][:, None] - 1)[:, 0]
        loss = ranking_distillation(logit_BN, item_BK, weight_BK, negative, self.neg_term)
        if self.dro_alpha:
            robust = robust_distillation(
                logit_BN,
                item_BK,
                weight_BK,
                self.robust_term.propensity_N,
                self.robust_term.config.beta,
            )
            loss = loss + self.dro_alpha * robust
        return loss

    def teacher_weights(self, logit_BN: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """The teacher's items of each row and their weights, [B, K] each.

        Args:
            logit_BN: the student's scores.
            batch: RecBole's Interaction.
        """
        place_B = self.place_W[batch[rb.ROW]]
        item_BK = self.item_TK[place_B] * (place_B >= 0)[:, None]
        sure_B = self.sure_T[place_B] * (place_B >= 0)
        if self.exclude_target:
            item_BK = item_BK * (item_BK != batch[rb.ITEM][:, None])
        distance_BK = self.distance_TK[place_B]
        weight_BK = importance(self.rule, item_BK, distance_BK, logit_BN, sure_B)
        return item_BK, weight_BK

    def scores(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """Scores of all items, [B, N + 1]; padding has -inf."""
        logit_BN = self.logits(self.encode(item_BH, length_B))
        return F.pad(logit_BN, (1, 0), value=-torch.inf)
