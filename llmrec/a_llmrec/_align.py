"""Stage 1 of A-LLMRec: two autoencoders and their four losses.

Source: Kim et al., "Large Language Models meet Collaborative Filtering", KDD 2024, Section 4.1; the sigmoid
on the latent vectors and the scaled score are in the released code only.

Axes: B rows of a batch, D width of the recommender, T width of the text encoder, E latent width, N items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import DataError
from bench.types import BoolArray, IntArray, Ragged
from llmrec.lm.soft_tokens import Vectors

ROUNDS = 1000


class Autoencoder(nn.Module):
    """One linear layer with a sigmoid in, one linear layer out.

    Args:
        width: of the vectors.
        latent: width of the latent vectors, whose components lie in (0, 1).
    """

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, latent), nn.Linear(latent, width)

    def encode(self, vector_BD: Tensor) -> Tensor:
        """Latent vectors [B, E]."""
        return torch.sigmoid(self.into(vector_BD))

    def forward(self, vector_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vectors [B, E] and reconstructions [B, D]."""
        latent_BE = self.encode(vector_BD)
        return latent_BE, self.out(latent_BE)


@dataclass(frozen=True)
class Weights:
    """Weights of the losses, and how a score is taken.

    Attributes:
        a: of the item reconstruction.
        b: of the text reconstruction.
        rec_score: ``mean`` divides the dot product by D as the released code does, ``dot`` does not.
    """

    a: float = 0.5
    b: float = 0.2
    rec_score: str = "mean"


def alignment(
    user_BD: Tensor,
    item_2BD: Tensor,
    text_2BT: Tensor,
    autoencoders: tuple[Autoencoder, Autoencoder],
    weights: Weights,
) -> dict[str, Tensor]:
    """The losses of a batch.

    Args:
        user_BD: states of the recommender after each history.
        item_2BD: vectors of the positive items, then of the negative ones.
        text_2BT: vectors of their titles, with gradients if the text encoder is trained.
        autoencoders: of items and of texts.
        weights: how the parts add up.

    Returns:
        scalars by name: ``match``, ``item`` and ``text`` (reconstructions), ``rec``, and their sum
        ``total``; each part is the mean over positives plus the mean over negatives.
    """
    of_item, of_text = autoencoders
    latent_item, rebuilt_item = of_item(item_2BD)
    latent_text, rebuilt_text = of_text(text_2BT)
    score_2B = (user_BD.repeat(2, 1) * rebuilt_item).sum(1)
    if weights.rec_score == "mean":
        score_2B = score_2B / item_2BD.shape[1]
    bought_2B = torch.zeros_like(score_2B)
    bought_2B[: len(user_BD)] = 1
    parts = {
        "match": 2 * F.mse_loss(latent_item, latent_text),  # twice the mean over 2B = both means
        "item": 2 * F.mse_loss(rebuilt_item, item_2BD),
        "text": 2 * F.mse_loss(rebuilt_text, text_2BT.detach()),
        "rec": 2 * F.binary_cross_entropy_with_logits(score_2B, bought_2B),
    }
    total = parts["match"] + weights.a * parts["item"] + weights.b * parts["text"] + parts["rec"]
    return {**parts, "total": total}


def negatives(sequences: Ragged, seen_N: BoolArray, rng: np.random.Generator) -> IntArray:
    """One negative item for each row, uniform over the seen items outside the row, int64 [W].

    Unseen items are never drawn: their vectors are untrained, and the vectors of their titles would be
    drawn towards these.

    Args:
        sequences: history and target of each row.
        seen_N: items of the recommender's training rows.
        rng: source of the draws.

    Raises:
        DataError: a row holds every seen item.
    """
    pool = np.flatnonzero(seen_N)
    held_WH = sequences.padded(int(sequences.lengths.max()), align="left")
    drawn_W = rng.choice(pool, len(sequences))
    for _ in range(ROUNDS):
        clash = np.flatnonzero((held_WH == drawn_W[:, None]).any(1))
        if not len(clash):
            return drawn_W
        drawn_W[clash] = rng.choice(pool, len(clash))
    raise DataError(
        f"training row {clash[0]} holds all of the {len(pool)} trained items; there is no negative item"
    )


def agreement(item_NE: Vectors, text_NE: Vectors, seen_N: BoolArray) -> tuple[float, float]:
    """Mean cosine of an item's two latent vectors, and of those of two different items; seen items only.

    The vectors are centred first: all their components lie in (0, 1), so that uncentred ones are all
    similar.

    Args:
        item_NE: latent vectors of the items.
        text_NE: latent vectors of their titles.
        seen_N: items of the recommender's training rows.
    """
    one, two = (x[seen_N] - x[seen_N].mean(0) for x in (item_NE, text_NE))
    one, two = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (one, two))
    matched, every, n = float((one * two).sum()), float(one.sum(0) @ two.sum(0)), len(one)
    return matched / n, (every - matched) / max(n * (n - 1), 1)
