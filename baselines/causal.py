"""The torch modules of the sequential baselines: RecBole's models, with their repairs.

The seam for methods that build on them: ``encode`` (histories to user vectors), ``input_table`` (what
histories are looked up in), ``item_table`` (what user vectors are compared with), ``draw`` (what chance adds
to a batch) and ``calculate_loss``. Ids are the suite's: 1..N, 0 is padding.

Axes: B batch, W training rows, H history, L positions, M trained positions, N items, D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines import _recbole as rb
from baselines.encoder import causal_mask, full_layer, run_layers
from bench.types import Windows

NEGATIVE = "neg_item_id"


def other_items(item: Tensor, n_items: int, rng: np.random.Generator) -> Tensor:
    """One uniform draw for each entry of ``item`` among the other items, same shape, int64."""
    draw = torch.from_numpy(rng.integers(1, max(n_items, 2), tuple(item.shape)))
    return (draw + (draw >= item.cpu())).clamp_(max=n_items).to(item.device)


def outside_window(window_BL: Tensor, width: int, n_items: int, rng: np.random.Generator) -> Tensor:
    """Uniform draws among the items that are not in the row's window, int64 [B, width].

    Rejected entries are drawn again; after 50 rounds (a window that holds all items) they stay.
    """
    window_BL = window_BL.cpu()
    draw = torch.from_numpy(rng.integers(1, n_items + 1, (len(window_BL), width)))
    for _ in range(50):
        clash = (draw[:, :, None] == window_BL[:, None, :]).any(-1)
        if not clash.any():
            break
        draw[clash] = torch.from_numpy(rng.integers(1, n_items + 1, int(clash.sum())))
    return draw


def once_each(train: Windows, width: int) -> npt.NDArray[np.bool_]:
    """Positions of the rows that together hold every interaction once, bool [W, H].

    Windows of a user slide or grow by one item, and of some samples of rows only a part is there, so one
    interaction stands in up to eleven rows. It is trained where it occurs first in time, told apart by user,
    item before, item and how often that pair stood in the row already. A row's target is always trained.

    Args:
        train: the rows; histories are cut to their last ``width`` items.
        width: H.
    """
    item_WL = train.sequences.padded(width + 1, align="left").astype(np.int64)
    pairs, pair_F = np.unique(
        item_WL[:, :-1] * (train.n_items + 1) + item_WL[:, 1:], return_inverse=True
    )
    pair_WH = pair_F.reshape(len(train), width)
    before_HH = np.tri(width, k=-1, dtype=bool)
    again_WH = ((pair_WH[:, :, None] == pair_WH[:, None, :]) & before_HH).sum(-1)
    user_W = np.unique(train.user_W, return_inverse=True)[1]
    mark_WH = (user_W[:, None] * len(pairs) + pair_WH) * width + again_WH
    by_time_W = np.argsort(train.timestamp_W, kind="stable")
    first = np.unique(mark_WH[by_time_W], return_index=True)[1]
    trained_WH = np.zeros((len(train), width), bool)
    trained_WH[by_time_W[first // width], first % width] = True
    length_W = np.minimum(train.history.lengths, width)
    trained_WH[np.arange(len(train)), length_W - 1] = True
    return trained_WH & (np.arange(width) < length_W[:, None])


def next_items(batch: Any) -> Tensor:
    """The item that followed each item of a history, [B, H]; 0 behind the target."""
    next_BH = F.pad(batch[rb.HISTORY][:, 1:], (0, 1))
    return next_BH.scatter(1, batch[rb.LENGTH][:, None] - 1, batch[rb.ITEM][:, None])


class CausalModel(rb.SASRec):
    """RecBole's SASRec: causal Transformer over the history, dot product with the item table.

    Losses: ``ce``, softmax over the items at the last position (RecBole's, without the padding row, which
    would be a perpetual negative); ``ce_all``, the same over every interaction once (the positions that
    ``attach_positions`` marks), mean over them; ``bce``, at every position -log s(h.e_pos) - log s(-h.e_neg)
    with one negative drawn outside the window (Kang and McAuley 2018, equation 7), mean over positions.

    Under ``faithful`` the forward pass and ``ce`` are RecBole's own.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.objective: str = config["objective"]
        self.faithful: bool = config["faithful"]

    def attach_positions(self, trained_WH: npt.NDArray[np.bool_]) -> None:
        """Say which positions of the training rows ``ce_all`` trains; kept out of the state."""
        self.trained_WH = torch.from_numpy(trained_WH).to(self.item_embedding.weight.device)

    def input_table(self) -> Tensor:
        """Vectors that stand for the items of a history, [N + 1, D]; row 0 is padding."""
        return self.item_embedding.weight

    def item_table(self) -> Tensor:
        """Vectors that user vectors are compared with, [N + 1, D]; row 0 is padding."""
        return self.item_embedding.weight

    def encode(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """User vectors, [B, D].

        Args:
            item_BH: histories, left-aligned, padded with 0, int64.
            length_B: their lengths, at least 1, int64.
        """
        if self.faithful:
            return self.forward(item_BH, length_B)
        mask = causal_mask(item_BH.shape[1], item_BH.device)
        return run_layers(self.trm_encoder.layer, self.embed(item_BH), mask, length_B - 1)

    def states(self, item_BH: Tensor) -> Tensor:
        """The state after each item, [B, H, D]."""
        hidden_BHD, mask = self.embed(item_BH), causal_mask(item_BH.shape[1], item_BH.device)
        for layer in self.trm_encoder.layer:
            hidden_BHD = full_layer(layer, hidden_BHD, mask)
        return hidden_BHD

    def embed(self, item_BH: Tensor) -> Tensor:
        """Items and positions, normalised and dropped out, [B, H, D]."""
        item_BHD = F.embedding(item_BH, self.input_table(), padding_idx=0)
        place_HD = self.position_embedding.weight[: item_BH.shape[1]]
        return self.dropout(self.LayerNorm(item_BHD + place_HD))

    def logits(self, user_BD: Tensor) -> Tensor:
        """Scores of the items 1..N, [B, N]."""
        return user_BD @ self.item_table()[1:].T

    def scores(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """Scores of all items, [B, N + 1]; padding has -inf."""
        logit_BN = self.logits(self.encode(item_BH, length_B))
        return F.pad(logit_BN, (1, 0), value=-torch.inf)

    def draw(self, batch: Any, dataset: Any, rng: np.random.Generator) -> Any:
        """Add the negatives that the loss needs."""
        if self.objective == "bce":
            window_BL = torch.cat([batch[rb.HISTORY], batch[rb.ITEM][:, None]], 1)
            width = batch[rb.HISTORY].shape[1]
            draw_BH = outside_window(window_BL, width, self.n_items - 1, rng)
            batch[NEGATIVE] = draw_BH.to(window_BL.device)
        return batch

    def calculate_loss(self, batch: Any) -> Tensor:
        """The loss of one batch, a scalar."""
        if self.objective == "bce":
            return self._bce(self.states(batch[rb.HISTORY]), batch)
        if self.objective == "ce_all":
            trained_BH = self.trained_WH[batch[rb.ROW]]
            state_MD = self.states(batch[rb.HISTORY])[trained_BH]
            total = F.cross_entropy(
                self.logits(state_MD), next_items(batch)[trained_BH] - 1, reduction="sum"
            )
            return total / max(len(state_MD), 1)
        if self.faithful:
            return super().calculate_loss(batch)
        user_BD = self.encode(batch[rb.HISTORY], batch[rb.LENGTH])
        return F.cross_entropy(self.logits(user_BD), batch[rb.ITEM] - 1)

    def _bce(self, state_BHD: Tensor, batch: Any) -> Tensor:
        table = self.item_table()
        positive_BH = (state_BHD * F.embedding(next_items(batch), table)).sum(-1)
        negative_BH = (state_BHD * F.embedding(batch[NEGATIVE], table)).sum(-1)
        loss_BH = F.softplus(-positive_BH) + F.softplus(negative_BH)
        return loss_BH[batch[rb.HISTORY] > 0].mean()


class RobustModel(CausalModel):
    """DROS: a SASRec whose loss adds a distributionally robust term (weight ``dro_alpha``).

    For scores s, target t and c_j, how often j is a training target::

        p_j   = ((c_j + 1) / sum_k (c_k + 1)) ^ dro_power
        L_dro = logsumexp_j( p_j (s_j - [j = t])^2 / dro_beta )
        L     = L_rec + dro_alpha * mean L_dro

    ``L_rec`` is the objective of CausalModel. Padding has no propensity and does not enter the sum. The
    authors subtract and add exponentials instead, which overflows from |s| of about 12 on. Under ``faithful``
    the output layer is a separate one with a bias, and ``L_rec`` is BCE at the last position only.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.dro_alpha, self.dro_beta = config["dro_alpha"], config["dro_beta"]
        count_N = torch.bincount(dataset.inter_feat[rb.ITEM].cpu(), minlength=self.n_items)[1:] + 1
        self.register_buffer("propensity_N", (count_N / count_N.sum()) ** config["dro_power"])
        if self.faithful:
            self.head = torch.nn.Linear(self.hidden_size, self.n_items - 1)
            self.head.apply(self._init_weights)

    def logits(self, user_BD: Tensor) -> Tensor:
        """Scores of the items 1..N, [B, N]."""
        return self.head(user_BD) if self.faithful else super().logits(user_BD)

    def draw(self, batch: Any, dataset: Any, rng: np.random.Generator) -> Any:
        """Add the negatives that the loss needs."""
        if not self.faithful:
            return super().draw(batch, dataset, rng)
        batch[NEGATIVE] = other_items(batch[rb.ITEM], self.n_items - 1, rng)
        return batch

    def robust_loss(self, logit_BN: Tensor, target_B: Tensor) -> Tensor:
        """Mean of L_dro, in fp32.

        Args:
            logit_BN: scores of the items 1..N.
            target_B: target ids, 1..N.
        """
        own_B1 = target_B[:, None] - 1
        error_BN = logit_BN.float().scatter_add(1, own_B1, -torch.ones_like(own_B1).float())
        return (self.propensity_N * error_BN.square() / self.dro_beta).logsumexp(1).mean()

    def calculate_loss(self, batch: Any) -> Tensor:
        """The loss of one batch, a scalar; without the robust term it is CausalModel's."""
        if self.dro_alpha == 0 and not self.faithful:
            return super().calculate_loss(batch)
        target_B = batch[rb.ITEM]
        if self.objective == "bce" and not self.faithful:
            state_BHD = self.states(batch[rb.HISTORY])
            base = self._bce(state_BHD, batch)
            logit_BN = self.logits(self.gather_indexes(state_BHD, batch[rb.LENGTH] - 1))
        else:
            logit_BN = self.logits(self.encode(batch[rb.HISTORY], batch[rb.LENGTH]))
            base = self._last_position(logit_BN, batch)
        if self.dro_alpha == 0:
            return base
        return base + self.dro_alpha * self.robust_loss(logit_BN, target_B)

    def _last_position(self, logit_BN: Tensor, batch: Any) -> Tensor:
        if self.objective == "ce":
            return F.cross_entropy(logit_BN, batch[rb.ITEM] - 1)
        positive_B = logit_BN.gather(1, batch[rb.ITEM][:, None] - 1)
        negative_B = logit_BN.gather(1, batch[NEGATIVE][:, None] - 1)
        return (F.softplus(-positive_B).mean() + F.softplus(negative_B).mean()) / 2
