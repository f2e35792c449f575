"""The torch module of BERT4Rec: RecBole's, with three repairs.

Axes: B batch, L positions, M masked positions, N items, D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines import _recbole as rb
from baselines.encoder import padding_mask, run_layers
from baselines.losses.ce_all import mean_or_zero

MASKED = "Mask_item_id_list"


class MaskedModel(rb.BERT4Rec):  # type: ignore[misc]  # RecBole has no types
    """RecBole's BERT4Rec: bidirectional Transformer that fills in masked items.

    With predefined windows RecBole (1.2.1) never trains on a row's target, drops the first item of every
    history when it writes the mask for prediction, and gives position 0 no loss. Here the training rows hold
    history and target, the mask is written behind the last item of a row that has room for it, and every
    masked position counts (padding is not among the candidates, and a row may have any number of masks).

    With ``as_recbole`` masks, loss and scores are RecBole's own.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.as_recbole: bool = config["masks"] == "recbole"
        self.last_ratio: float = config["ft_ratio"]
        if self.as_recbole:
            self.transform = rb.construct_transform(config)
            self.MASK_ITEM_SEQ, self.POS_ITEMS = config["MASK_ITEM_SEQ"], config["POS_ITEMS"]
            self.NEG_ITEMS, self.MASK_INDEX = config["NEG_ITEMS"], config["MASK_INDEX"]

    def draw(self, batch: Any, dataset: Any, rng: np.random.Generator) -> Any:
        """Mask the last item of every row (in a share ``ft_ratio`` of the batches) or items at random.

        Args:
            batch: RecBole's Interaction.
            dataset: the training rows it is from.
            rng: source of the draws.
        """
        if self.as_recbole:
            return self.transform(dataset, batch)
        item_BL, length_B = batch[rb.HISTORY], batch[rb.LENGTH]
        if rng.random() < self.last_ratio:
            masked_BL = (
                torch.arange(item_BL.shape[1], device=item_BL.device) == length_B[:, None] - 1
            )
        else:
            chosen_BL = torch.from_numpy(rng.random(item_BL.shape) < self.mask_ratio)
            masked_BL = chosen_BL.to(item_BL.device) & (item_BL > 0)
        batch[MASKED] = item_BL.masked_fill(masked_BL, self.mask_token)
        return batch

    def calculate_loss(self, batch: Any) -> Tensor:
        """Cross-entropy at the masked positions, mean over them; 0 where nothing was masked."""
        if self.as_recbole:
            return super().calculate_loss(batch)
        row_M, place_M = (batch[MASKED] == self.mask_token).nonzero(as_tuple=True)
        logit_MN = self.logits(self.read(batch[MASKED], place_M, row_M))
        target_M = batch[rb.HISTORY][row_M, place_M]
        return mean_or_zero(logit_MN, target_M)

    def read(self, item_BL: Tensor, place_M: Tensor, row_M: Tensor | None = None) -> Tensor:
        """Output vectors at the read positions, [M, D].

        Args:
            item_BL: rows of items and masks.
            place_M: index of each read position in its row.
            row_M: row of each read position; None for one position a row, in order.
        """
        place_LD = self.position_embedding.weight[: item_BL.shape[1]]
        hidden_BLD = self.dropout(self.LayerNorm(self.item_embedding(item_BL) + place_LD))
        layers, mask = self.trm_encoder.layer, padding_mask(item_BL)
        hidden_MD = run_layers(layers, hidden_BLD, mask, place_M, row_M)
        return self.output_ln(F.gelu(self.output_ffn(hidden_MD)))

    def encode(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """User vectors: the output at a mask behind the history, [B, D].

        Args:
            item_BH: histories, left-aligned, padded with 0, int64; H is smaller than the model's width.
            length_B: their lengths, int64.
        """
        if self.as_recbole:
            asked_BH = self.reconstruct_test_data(item_BH, length_B)
            return self.gather_indexes(self.forward(asked_BH), length_B - 1)
        asked_BL = F.pad(item_BH, (0, 1)).scatter(1, length_B[:, None], self.mask_token)
        return self.read(asked_BL, length_B)

    def item_table(self) -> Tensor:
        """Vectors that user vectors are compared with, [N + 1, D]; row 0 is padding."""
        return self.item_embedding.weight[: self.n_items]

    def logits(self, user_BD: Tensor) -> Tensor:
        """Scores of the items 1..N, [B, N]."""
        return torch.addmm(self.output_bias[1:], user_BD, self.item_table()[1:].T)

    def scores(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """Scores of all items, [B, N + 1]; padding has -inf.

        Args:
            item_BH: histories, left-aligned, padded with 0, int64.
            length_B: their lengths, int64.
        """
        if self.as_recbole:
            batch = rb.Interaction({rb.HISTORY: item_BH, rb.LENGTH: length_B})
            score_BN = self.full_sort_predict(batch)
            score_BN[:, 0] = -torch.inf
            return score_BN
        return F.pad(self.logits(self.encode(item_BH, length_B)), (1, 0), value=-torch.inf)
