"""LLM-CF's network: a causal decoder reads retrieved examples with their rationales, then the query.

Each example is three tokens (features, rationale, label), the query is one (features without an item); the
output w at the last token is added to SASRec's user vector. Written with stock PyTorch from the paper's
description (Sun et al., CIKM 2024).

Axes: B batch, C examples, L tokens, D width, T width of text vectors, H history, M entries, N items, A heads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import _recbole as rb  # noqa: PLC2701 the suite's own SASRec
from baselines.causal import NEGATIVE, CausalModel
from llmrec.llm_cf._bank import Bank


class Block(nn.Module):
    """One decoder layer: pre-norm causal attention with rotary positions, then SwiGLU; no dropout."""

    def __init__(self, width: int, heads: int, inner: int, eps: float | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_mid = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.packed = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, token_BLD: Tensor) -> Tensor:
        """The tokens after this layer."""
        B, L, D = token_BLD.shape
        packed = self.packed(self.norm_in(token_BLD)).view(B, L, 3, self.heads, D // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(rotated(query), rotated(key), value, is_causal=True)
        token_BLD = token_BLD + self.out(seen.transpose(1, 2).reshape(B, L, D))
        gate, up = self.gate_up(self.norm_mid(token_BLD)).chunk(2, -1)
        return token_BLD + self.down(F.silu(gate) * up)


def rotated(x_BALE: Tensor) -> Tensor:
    """Rotary position embedding over pairs (first half, second half) of each head."""
    length, width = x_BALE.shape[-2:]
    half = torch.arange(width // 2, device=x_BALE.device)
    angle_LE = torch.arange(length, device=x_BALE.device)[:, None] * 10000.0 ** (-2 * half / width)
    one, two = x_BALE.chunk(2, -1)
    cos, sin = angle_LE.cos(), angle_LE.sin()
    return torch.cat([one * cos - two * sin, one * sin + two * cos], -1)


class InContext(nn.Module):
    """From examples and a query to the vector w.

    Args:
        width: D of every token.
        text: T.
        users: how many users have a row of their own; 0 for no user table.
        shape: layers, heads and feed-forward width of the decoder.
        rationales: whether examples carry a text token.
        norm_eps: epsilon of the RMSNorms; None for PyTorch's.
    """

    def __init__(
        self,
        *,
        width: int,
        text: int,
        users: int,
        shape: tuple[int, int, int],
        rationales: bool,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        layers, heads, inner = shape
        self.users = nn.Embedding(users + 1, width, padding_idx=0)
        # small as item vectors are: a user without training rows has zeros, which must not be far off
        nn.init.normal_(self.users.weight[1:], std=0.02)
        self.has_users, self.rationales = users > 0, rationales
        self.labels = nn.Embedding(2, width)
        self.text = nn.Linear(text, width)
        self.features = nn.Linear(5 * width, width)
        self.blocks = nn.ModuleList(Block(width, heads, inner, norm_eps) for _ in range(layers))
        self.norm = nn.RMSNorm(width, norm_eps)
        self.recover = nn.Linear(width, text)

    def feature(
        self, user: Tensor, state: Tensor, mean: Tensor, item: Tensor, title: Tensor
    ) -> Tensor:
        """One feature token from five vectors.

        Args:
            user: the user's number in the user table.
            state: SASRec's state after the history.
            mean: mean title vector of the history.
            item: SASRec's vector of the item in question.
            title: its title vector.
        """
        who = self.users(user if self.has_users else torch.zeros_like(user))
        return self.features(torch.cat([who, state, self.text(mean), item, self.text(title)], -1))

    def forward(
        self, feature_BCD: Tensor, text_BCT: Tensor, label_BC: Tensor, query_BD: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read the examples, then the query.

        Args:
            feature_BCD: feature token of each example.
            text_BCT: vectors of the rationales (not read where there are none).
            label_BC: 1 chosen, 0 not.
            query_BD: feature token of the query.

        Returns:
            w [B, D], and what the step before each rationale predicts of it [B, C, T].
        """
        tokens = [feature_BCD, self.labels(label_BC)]
        if self.rationales:
            tokens.insert(1, self.text(text_BCT))
        each = len(tokens)
        token_BLD = torch.stack(tokens, 2).flatten(1, 2)
        token_BLD = torch.cat([token_BLD, query_BD[:, None]], 1)
        for block in self.blocks:
            token_BLD = block(token_BLD)
        out_BLD = self.norm(token_BLD)
        return out_BLD[:, -1], self.recover(out_BLD[:, :-1:each])


class InContextModel(CausalModel):
    """SASRec whose user vector is u = SASRec(history) + inject * w.

    With ``inject`` 0 the decoder does not exist and everything is SASRec's, bit for bit. Any loss over items
    at the last position trains it.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        for key in ("inject", "rho"):
            setattr(self, key, config[key])
        shape = config["context"]
        self.context = InContext(width=self.hidden_size, **shape) if self.inject else None

    def attach(self, bank: Bank) -> None:
        """Give the module the examples it reads; they are kept out of its state."""
        device = self.item_embedding.weight.device

        def on_device(array: Any) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.title_NT, self.text_MT = on_device(bank.item_NT), on_device(bank.text_MT)
        self.history_MH, self.length_M = on_device(bank.history_MH), on_device(bank.length_M)
        self.item_M, self.label_M = on_device(bank.item_M), on_device(bank.label_M)
        self.user_M = on_device(bank.place_of(bank.user_M))
        self.has_title_N = (self.title_NT != 0).any(1)

    def attach_rows(self, example_WC: Any, user_W: Any) -> None:
        """Keep what belongs to each training row: its retrieved examples and its user.

        Args:
            example_WC: entries of the bank, int64 [W, C].
            user_W: the user's number in the user table, 0 for unknown users.
        """
        device = self.item_embedding.weight.device
        self.example_WC = torch.from_numpy(example_WC).to(device)
        self.user_W = torch.from_numpy(user_W).to(device)

    def mean_title(self, item_BH: Tensor) -> Tensor:
        """Mean title vector over the items that have a title, [B, T]."""
        count_B1 = self.has_title_N[item_BH].sum(1, keepdim=True).clamp(min=1)
        return F.embedding(item_BH, self.title_NT).sum(1) / count_B1

    def features(self, entry_E: Tensor) -> Tensor:
        """Feature tokens of entries, [E, D]."""
        assert self.context is not None, "nothing is injected"
        history_EH, item_E = self.history_MH[entry_E], self.item_M[entry_E]
        state_ED = self.encode(history_EH, self.length_M[entry_E].clamp(min=1))
        who_E, mean_ET = self.user_M[entry_E], self.mean_title(history_EH)
        item_ED, title_ET = self.input_table()[item_E], self.title_NT[item_E]
        return self.context.feature(who_E, state_ED, mean_ET, item_ED, title_ET)

    def all_features(self, size: int = 512) -> Tensor:
        """Feature tokens of all entries, computed in one fixed way, [M, D]."""
        entries = torch.arange(len(self.item_M), device=self.item_M.device)
        return torch.cat([self.features(part) for part in entries.split(size)])

    def informed(
        self,
        item_BH: Tensor,
        length_B: Tensor,
        user_B: Tensor,
        example_BC: Tensor,
        feature_MD: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """User vectors with what the examples add, and the reconstruction loss.

        Args:
            item_BH: histories, left-aligned.
            length_B: their lengths.
            user_B: users' numbers in the user table, 0 for unknown ones.
            example_BC: entries; a row of -1 adds nothing.
            feature_MD: from ``all_features``; None computes those that occur, with gradients.

        Returns:
            u [B, D], and 1 - mean cosine of predicted and true rationales (0 where there are none).
        """
        assert self.context is not None, "nothing is injected"
        state_BD = self.encode(item_BH, length_B)
        place_BC = example_BC.clamp(min=0)
        if feature_MD is None:
            entry_E, inverse_BC = place_BC.unique(return_inverse=True)
            feature_BCD = self.features(entry_E)[inverse_BC]
        else:
            feature_BCD = feature_MD[place_BC]
        nothing_BD, nothing_BT = torch.zeros_like(state_BD), self.title_NT[torch.zeros_like(user_B)]
        mean_BT = self.mean_title(item_BH)
        query_BD = self.context.feature(user_B, state_BD, mean_BT, nothing_BD, nothing_BT)
        text_BCT = self.text_MT[place_BC]
        w_BD, guess_BCT = self.context(feature_BCD, text_BCT, self.label_M[place_BC], query_BD)
        there_B1 = (example_BC[:, :1] >= 0).to(w_BD.dtype)
        loss = w_BD.new_zeros(())
        if self.rho and self.context.rationales:
            alike_BC = F.cosine_similarity(guess_BCT, text_BCT, dim=-1) * there_B1
            loss = 1 - alike_BC.sum() / (there_B1.sum() * alike_BC.shape[1]).clamp(min=1)
        return state_BD + self.inject * w_BD * there_B1, loss

    def calculate_loss(self, batch: Any) -> Tensor:
        """Recommendation loss on u plus ``rho`` times the reconstruction loss, a scalar."""
        if self.context is None:
            return super().calculate_loss(batch)
        row_B = batch[rb.ROW]
        user_BD, extra = self.informed(
            batch[rb.HISTORY], batch[rb.LENGTH], self.user_W[row_B], self.example_WC[row_B]
        )
        drawn = batch[NEGATIVE] if NEGATIVE in batch.columns else None
        return self.item_loss(self.last(user_BD, batch, drawn)) + self.rho * extra
