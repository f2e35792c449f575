"""The network of ``sasrec_text``: SASRec whose item vectors are a learned map of fixed title vectors.

Axes: B batch, H history, M trained positions, N items, S seen items, R width of title vectors, D width,
G experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.cosine import CosineModel
from baselines.losses.base import Trained
from bench.types import BoolArray, FloatArray, IntArray

LEAST_NOISE = 0.01  # of a gate, as UniSRec has it


class Adapter(torch.nn.Module):
    """Map from title vectors to item vectors: one matrix, or a mixture of several (UniSRec, KDD 2022).

    One matrix: ``drop(z) V``. A mixture: ``sum_g gamma_g(z) (drop(z) - b_g) V_g`` with
    ``gamma = softmax(z G + n softplus(z G') + .01 n)`` and n normal noise, drawn in training only. UniSRec
    draws dropout for each expert, here all of them read the same vectors, which makes them one product.

    Args:
        width: R.
        out: D.
        experts: G; None for one matrix without bias or gate.
        dropout: share of the entries of a title vector that is left out in training.
    """

    def __init__(self, width: int, out: int, *, experts: int | None, dropout: float) -> None:
        super().__init__()
        self.experts, self.out = experts, out
        self.dropout = torch.nn.Dropout(dropout)
        self.map = torch.nn.Parameter(torch.empty(width, (experts or 1) * out).normal_(0, 0.02))
        if experts is not None:
            self.bias_GR = torch.nn.Parameter(torch.zeros(experts, width))
            self.gate_RG = torch.nn.Parameter(torch.zeros(width, experts))
            self.noise_RG = torch.nn.Parameter(torch.zeros(width, experts))

    def forward(self, title_NR: Tensor) -> Tensor:
        """Item vectors, [N, D]."""
        mapped = self.dropout(title_NR) @ self.map
        if self.experts is None:
            return mapped
        map_GRD = self.map.view(-1, self.experts, self.out).transpose(0, 1)
        shift_GD = torch.einsum("gr,grd->gd", self.bias_GR, map_GRD)
        item_NGD = mapped.view(-1, self.experts, self.out) - shift_GD
        return (self.shares(title_NR)[..., None] * item_NGD).sum(1)

    def shares(self, title_NR: Tensor) -> Tensor:
        """How much each expert counts for each item, [N, G]; rows sum to 1."""
        gate_NG = title_NR @ self.gate_RG
        if self.training:
            spread_NG = F.softplus(title_NR @ self.noise_RG) + LEAST_NOISE
            gate_NG = gate_NG + torch.randn_like(gate_NG) * spread_NG
        return gate_NG.softmax(-1)


class SeenItems:
    """The seen items of a model as a catalogue of their own, numbered 1..S, for a loss.

    Args:
        model: scores all items.
        item_S: ids of the seen ones.
    """

    def __init__(self, model: TextModel, item_S: Tensor) -> None:
        self.model, self.item_S = model, item_S

    def logits(self, state_MD: Tensor) -> Tensor:
        """Scores of the seen items, [M, S]."""
        return state_MD @ self.item_table()[1:].T

    def item_table(self) -> Tensor:
        """Vectors that states are compared with, [S + 1, D]; row 0 is padding."""
        return self.model.item_table()[F.pad(self.item_S, (1, 0))]


class TextModel(CosineModel):
    """SASRec over ``A(z)``, and ``A(z) + t`` with ids; scores are cosines over a temperature.

    Every item has a vector, also those never trained on, whose t is 0. Once trained, the map is folded into
    one table and serving needs no title vectors.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        options = config["text"]
        width = options["width"]
        self.with_ids = width > 0 and options["ids"] == "add"
        self.among_seen: bool = options["negatives"] == "seen"
        self.adapter: Adapter | None = None
        if width:
            self.adapter = Adapter(
                width, self.hidden_size, experts=options["experts"], dropout=options["dropout"]
            )
        if not self.with_ids:
            del self.item_embedding
        self.register_buffer("folded_ND", torch.zeros(self.n_items, self.hidden_size))
        self.register_buffer("twin_N", torch.arange(self.n_items))
        self._table_ND: Tensor | None = None

    def attach(self, title_NR: FloatArray, seen_N: BoolArray, twin_N: IntArray) -> None:
        """Give the module what it reads; the title vectors are kept out of its state.

        Args:
            title_NR: whitened title vectors by item id, [N + 1, R].
            seen_N: items of the training rows, [N + 1].
            twin_N: by item id, the item whose score it shares because they have one title, [N + 1].
        """
        device = self.folded_ND.device
        self.title_NR = torch.from_numpy(title_NR).to(device)
        seen = torch.from_numpy(seen_N).to(device)
        self.item_S = seen.nonzero()[:, 0]
        self.place_N, self.seen_N1 = seen.cumsum(0), seen[:, None]
        if not self.with_ids:
            self.twin_N.copy_(torch.from_numpy(twin_N))

    def attach_positions(self, trained_WH: Any) -> None:
        """Set which positions of the training rows hold each interaction once; not saved."""
        self.trained_WH = torch.from_numpy(trained_WH).to(self.folded_ND.device)

    def fold(self) -> None:
        """Keep the finished item vectors and drop the map, once training is over."""
        self.eval()
        with torch.no_grad():
            self.folded_ND.copy_(self.input_table())
        self.adapter = None
        if self.with_ids:
            del self.item_embedding

    def input_table(self) -> Tensor:
        """Vectors that stand for the items of a history, [N + 1, D]."""
        if self._table_ND is not None:
            return self._table_ND
        if self.adapter is None:
            return self.folded_ND
        item_ND: Tensor = self.adapter(self.title_NR)
        return item_ND + self.item_embedding.weight * self.seen_N1 if self.with_ids else item_ND

    @contextmanager
    def one_table(self) -> Iterator[None]:
        """Compute the item vectors once for all that read them within."""
        self._table_ND = self.input_table()
        try:
            yield
        finally:
            self._table_ND = None

    def inside(self, state_BHD: Tensor, batch: Any, drawn: Tensor | None) -> Trained:
        """The trained positions of a batch, among the seen items or all; see CausalModel."""
        trained = super().inside(state_BHD, batch, drawn)
        if not self.among_seen:
            return trained
        target_M = self.place_N[trained.target_M]
        return Trained(trained.state_MD, target_M, SeenItems(self, self.item_S))

    def loss_and_last(self, batch: Any) -> tuple[Tensor, Trained]:
        """The loss of one batch and its last positions; see CausalModel."""
        with self.one_table():
            return super().loss_and_last(batch)

    def scores(self, item_BH: Tensor, length_B: Tensor) -> Tensor:
        """Scores of all items, [B, N + 1]; padding has -inf, and equal titles have one score."""
        with self.one_table():
            # the last digits of a product depend on the column
            return super().scores(item_BH, length_B)[:, self.twin_N]
