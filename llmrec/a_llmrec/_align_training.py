"""The training loop of A-LLMRec's stage 1, with an exact resume after each epoch.

Axes: W training rows, B rows of a batch, N items, D width of the recommender, T width of the text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.checkpoints import load_state, save_state
from bench.cell import Run
from bench.errors import ContractError
from bench.types import BoolArray, Ragged
from llmrec.a_llmrec._align import Autoencoder, Weights, alignment, negatives
from llmrec.lm.soft_tokens import Vectors
from llmrec.lm.text_encoder import BATCH, TextEncoder, encode_text

CHECKPOINT = "align.pt"
PARTS = ("match", "item", "text", "rec", "total")


@dataclass(frozen=True, eq=False)
class Rows:
    """The training rows of stage 1.

    Attributes:
        user_WD: states of the recommender after each history, float32 [W, D].
        sequences: history and target of each row; the target is last.
        seen_N: items that may be drawn as negatives.
    """

    user_WD: Tensor
    sequences: Ragged
    seen_N: BoolArray


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Hyperparameters of the optimizer: Adam (0.9, 0.98) with a constant learning rate."""

    lr: float = 1e-4
    batch: int = 32
    epochs: int = 10
    shuffle: bool = True


class Aligner(nn.Module):
    """Both autoencoders, and where title vectors come from.

    Args:
        item_ND: the recommender's item vectors, frozen.
        texts: a text for each item, by item id.
        encoder: the text encoder.
        latent: width of the joint space.
        trains: whether the encoder is trained with the rest; else each text is encoded once.
        cache: folder for the vectors of a frozen encoder.
    """

    item_ND: Tensor
    text_NT: Tensor

    def __init__(
        self,
        item_ND: Vectors,
        texts: Sequence[str],
        encoder: TextEncoder,
        *,
        latent: int,
        trains: bool,
        cache: Path,
    ) -> None:
        super().__init__()
        self.register_buffer("item_ND", torch.from_numpy(item_ND), persistent=False)
        self.of_item = Autoencoder(item_ND.shape[1], latent)
        self.of_text = Autoencoder(encoder.width, latent)
        self.titles = tuple(texts)
        self.encoder = encoder if trains else None
        if not trains:
            text_NT = encode_text(texts, encoder=encoder, cache_folder=cache)
            self.register_buffer("text_NT", torch.from_numpy(text_NT), persistent=False)

    def text(self, item_B: Tensor) -> Tensor:
        """Title vectors of these items, float32 [B, T]; each distinct one encoded once."""
        if self.encoder is None:
            return self.text_NT[item_B]
        distinct, which_B = item_B.unique(return_inverse=True)
        return self.encoder([self.titles[item] for item in distinct.tolist()])[which_B]

    @torch.no_grad()
    def joint(self) -> tuple[Tensor, Tensor]:
        """Latent vectors of all items and of all titles in evaluation mode, float32 [N + 1, E] each."""
        self.eval()
        items = torch.arange(len(self.titles), device=self.item_ND.device)
        latent = [self.of_text.encode(self.text(part)) for part in items.split(BATCH)]
        pair = self.of_item.encode(self.item_ND), torch.cat(latent)
        for vectors in pair:
            vectors[0] = 0
        return pair


def train(
    aligner: Aligner, rows: Rows, weights: Weights, schedule: Schedule, run: Run
) -> list[dict[str, float]]:
    """Train both autoencoders in place; returns the mean of each loss over the rows, by epoch.

    An interrupted training goes on from its last epoch and ends in the same weights, bit for bit on a
    CPU.

    Args:
        aligner: autoencoders and text encoder.
        rows: training rows.
        weights: of the parts of the loss.
        schedule: hyperparameters of the optimizer.
        run: seeds, folder, progress.

    Raises:
        ContractError: the loss is not finite.
    """
    optimizer = torch.optim.Adam(
        aligner.parameters(), lr=schedule.lr, betas=(0.9, 0.98), fused=True
    )
    path = run.folder / CHECKPOINT
    history: list[dict[str, float]] = []
    with torch.random.fork_rng():
        torch.manual_seed(run.seed_for("dropout"))
        if state := load_state(path, aligner.item_ND.device):
            history = _resume(state, aligner, optimizer)
        for epoch in range(len(history), schedule.epochs):
            rng = np.random.default_rng([run.seed_for("batches"), epoch])
            history.append(_epoch(aligner, optimizer, rows, weights, schedule, rng))
            loss = history[-1]["total"]
            if not np.isfinite(loss):
                raise ContractError(f"the loss of stage 1 is {loss}; lower lr ({schedule.lr})")
            _keep(path, aligner, optimizer, history)
            run.progress(epoch + 1, schedule.epochs, loss=loss)
    return history


def _epoch(
    aligner: Aligner,
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    weights: Weights,
    schedule: Schedule,
    rng: np.random.Generator,
) -> dict[str, float]:
    device = aligner.item_ND.device
    negative_W = negatives(rows.sequences, rows.seen_N, rng)
    order = rng.permutation(len(negative_W)) if schedule.shuffle else np.arange(len(negative_W))
    chosen_2W = np.stack([rows.sequences.last, negative_W])[:, order]
    pair_2W = torch.from_numpy(chosen_2W.astype(np.int64)).to(device)
    order_W = torch.from_numpy(order).to(device)
    sums = torch.zeros(len(PARTS), device=device)
    aligner.train()
    for start in range(0, len(order_W), schedule.batch):
        rows_B = order_W[start : start + schedule.batch]
        item_2B = pair_2W[:, start : start + schedule.batch].flatten()
        parts = alignment(
            rows.user_WD[rows_B],
            aligner.item_ND[item_2B],
            aligner.text(item_2B),
            (aligner.of_item, aligner.of_text),
            weights,
        )
        optimizer.zero_grad()
        parts["total"].backward()
        optimizer.step()
        sums += torch.stack([parts[name].detach() for name in PARTS]) * len(rows_B)
    means = (sums / len(order_W)).tolist()
    return dict(zip(PARTS, means, strict=True))


def _keep(
    path: Path,
    aligner: Aligner,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    state = {
        "model": aligner.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "torch": torch.get_rng_state(),
        "cuda": [s.cpu() for s in torch.cuda.get_rng_state_all()],
    }
    save_state(path, state)


def _resume(
    state: Mapping[str, Any], aligner: Aligner, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    aligner.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    return list(state["history"])
