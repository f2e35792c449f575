"""The torch modules of the sequential baselines: RecBole's models, with their repairs.

Methods that build on them override ``encode`` (histories to user vectors), ``input_table`` (what histories
are looked up in), ``item_table`` (what user vectors are compared with), ``draw`` (what chance adds to a
batch) and ``loss_and_last``. The loss itself is any registered one of kind ``item``. Ids are the suite's:
1..N, 0 is padding.

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
from baselines.encoder import causal_mask, full_layer, norm_first_layer, run_layers
from baselines.losses.base import ItemLoss, Trained
from baselines.losses.dro import DRO
from bench.registry import losses
from bench.types import Windows

NEGATIVE = "neg_item_id"


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


class CausalModel(rb.SASRec):  # type: ignore[misc]  # RecBole has no types
    """RecBole's SASRec: causal Transformer over the history, dot product with the item table.

    Attributes:
        item_loss: what it is trained with.
        as_recbole: whether user vectors come from RecBole's own forward pass.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.as_recbole = bool(config["as_recbole"])
        self.count_N = torch.bincount(dataset.inter_feat[rb.ITEM], minlength=self.n_items)[1:]
        kind = item_loss(config["objective"])
        self.item_loss = kind(config["objective_options"], count_N=self.count_N)

    def attach_positions(self, trained_WH: npt.NDArray[np.bool_]) -> None:
        """Set which positions of the training rows hold each interaction once; not saved."""
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
        if self.as_recbole:
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
        """Embeddings of items and positions after layer norm and dropout, [B, H, D]."""
        return self.dropout(self.LayerNorm(self.placed(item_BH)))

    def placed(self, item_BH: Tensor) -> Tensor:
        """Sum of the embeddings of items and positions, [B, H, D]."""
        item_BHD = F.embedding(item_BH, self.input_table(), padding_idx=0)
        return item_BHD + self.position_embedding.weight[: item_BH.shape[1]]

    def logits(self, user_BD: Tensor) -> Tensor:
        """Scores of the items 1..N, [B, N]."""
        return user_BD @ self.item_table()[1:].T

    def scores(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """Scores of all items, [B, N + 1]; padding has -inf.

        Args:
            item_BH: histories, left-aligned, padded with 0, int64.
            length_B: their lengths, int64.
        """
        logit_BN = self.logits(self.encode(item_BH, length_B))
        return F.pad(logit_BN, (1, 0), value=-torch.inf)

    def draw(self, batch: Any, dataset: Any, rng: np.random.Generator) -> Any:
        """The batch with the negatives that the loss draws.

        Args:
            batch: RecBole's Interaction.
            dataset: the training rows it is from.
            rng: source of the draws.
        """
        n_items = self.n_items - 1
        negative = self.item_loss.draw(batch[rb.HISTORY], batch[rb.ITEM], n_items, rng)
        if negative is not None:
            batch[NEGATIVE] = negative
        return batch

    def calculate_loss(self, batch: Any) -> Tensor:
        """The loss of one batch, a scalar."""
        return self.loss_and_last(batch)[0]

    def loss_and_last(self, batch: Any) -> tuple[Tensor, Trained]:
        """The loss of one batch, and its last positions, to which a method may add a term of its own."""
        drawn = batch[NEGATIVE] if NEGATIVE in batch.columns else None
        if self.item_loss.positions == "last":
            last = self.last(self.encode(batch[rb.HISTORY], batch[rb.LENGTH]), batch, drawn)
            return self.item_loss(last), last
        state_BHD = self.states(batch[rb.HISTORY])
        loss = self.item_loss(self.inside(state_BHD, batch, drawn))
        return loss, self.last(self.gather_indexes(state_BHD, batch[rb.LENGTH] - 1), batch)

    def last(self, user_BD: Tensor, batch: Any, drawn: Tensor | None = None) -> Trained:
        """User vectors and targets at the last positions of a batch.

        Args:
            user_BD: user vectors.
            batch: RecBole's Interaction.
            drawn: negatives of the loss, if it draws any.
        """
        return Trained(user_BD, batch[rb.ITEM], self, drawn)

    def inside(self, state_BHD: Tensor, batch: Any, drawn: Tensor | None) -> Trained:
        """The positions of a loss that trains more than the last one.

        Args:
            state_BHD: the state after each item.
            batch: the batch.
            drawn: its negatives.
        """
        next_BH = next_items(batch)
        if self.item_loss.positions == "all":
            return Trained(state_BHD, next_BH, self, drawn, batch[rb.HISTORY] > 0)
        here_BH = self.trained_WH[batch[rb.ROW]]
        drawn = drawn[here_BH] if drawn is not None and drawn.ndim == 2 else drawn
        return Trained(state_BHD[here_BH], next_BH[here_BH], self, drawn)


def item_loss(name: str) -> type[ItemLoss]:
    """The registered loss over items of this name."""
    kind = losses.get(name)
    assert issubclass(kind, ItemLoss), f"{name} is no loss over items"
    return kind


class RobustModel(CausalModel):
    """DROS: a SASRec whose loss adds a distributionally robust term (loss ``dro``, weight ``dro_alpha``).

    Unless ``tied``, the output layer is a separate one with a bias; ``norm_first`` moves the norms.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.dro_alpha: float = config["dro_alpha"]
        options = {"beta": config["dro_beta"], "power": config["dro_power"]}
        self.robust_term = DRO(options, count_N=self.count_N)
        self.norm_first: bool = config["norm_first"]
        self.tied: bool = config["tied"]
        if not self.tied:
            self.head = torch.nn.Linear(self.hidden_size, self.n_items - 1)
            self.head.apply(self._init_weights)

    def logits(self, user_BD: Tensor) -> Tensor:
        """Scores of the items 1..N, [B, N]."""
        return super().logits(user_BD) if self.tied else self.head(user_BD)

    def encode(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """User vectors, [B, D]; see CausalModel."""
        if self.norm_first:
            return self.gather_indexes(self.states(item_BH), length_B - 1)
        return super().encode(item_BH, length_B)

    def states(self, item_BH: Tensor) -> Tensor:
        """The state after each item, [B, H, D]."""
        if not self.norm_first:
            return super().states(item_BH)
        hidden_BHD, mask = self.embed(item_BH), causal_mask(item_BH.shape[1], item_BH.device)
        for layer in self.trm_encoder.layer:
            hidden_BHD = norm_first_layer(layer, hidden_BHD, mask)
        return self.LayerNorm(hidden_BHD)

    def embed(self, item_BH: Tensor) -> Tensor:
        """Embeddings after dropout and, unless ``norm_first``, layer norm, [B, H, D]."""
        if not self.norm_first:
            return super().embed(item_BH)
        return self.dropout(self.placed(item_BH))

    def loss_and_last(self, batch: Any) -> tuple[Tensor, Trained]:
        """``L + dro_alpha * L_dro``, the robust term at the last positions; see CausalModel."""
        loss, last = super().loss_and_last(batch)
        return (loss + self.dro_alpha * self.robust_term(last) if self.dro_alpha else loss), last
