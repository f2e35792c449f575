"""RQ-VAE: an autoencoder whose latent vector is quantised level by level.

r_0 = enc(z), c_l the nearest centroid e of level l, r_{l+1} = r_l - sg(e), q the sum of the centroids, and
z^ = dec(r_0 + sg(q - r_0)), where sg stops the gradient. The loss is

    MSE(z^, z) + mean over l of [MSE(sg(r_l), e) + beta MSE(r_l, sg(e))].

Sources: Rajput et al., "Recommender Systems with Generative Retrieval", NeurIPS 2023 (TIGER), Section 3.1;
layer sizes, AdamW and beta from the code of LC-Rec. There the first batch starts the codebooks, here all
titles; and there only the first level's commitment reaches the encoder, here that of every level.
F titles to fit, B of a batch, L levels, K codes, D width of the vectors, E of the latent vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from bench.cell import Run
from bench.errors import ContractError
from bench.types import FloatArray
from llmrec.sid._quantise import kmeans_codebooks

HIDDEN, LATENT, BETA = (512, 256, 128), 32, 0.25
DECAY = 1e-4  # of AdamW
DEAD_AFTER = 10  # epochs without use


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How an RQ-VAE is trained.

    Attributes:
        epochs: passes over the titles.
        lr: step size of AdamW.
        batch: titles a step.
    """

    epochs: int
    lr: float
    batch: int


class RQVAE(nn.Module):
    """The autoencoder with its codebooks.

    Args:
        width: D.
        levels: L.
        codes: K.
    """

    def __init__(self, width: int, *, levels: int, codes: int) -> None:
        super().__init__()
        sizes = (width, *HIDDEN, LATENT)
        self.encoder, self.decoder = _mlp(sizes), _mlp(sizes[::-1])
        self.centre_LKE = nn.Parameter(torch.zeros(levels, codes, LATENT))

    def latent(self, row_TD: FloatArray) -> npt.NDArray[np.float64]:
        """Latent vectors, computed in float64 so that no row depends on its batch, [T, E]."""
        return self._apply_in_double(self.encoder, row_TD)

    def rebuilt(self, latent_TE: FloatArray) -> npt.NDArray[np.float64]:
        """Reconstructions from (quantised) latent vectors, float64 [T, D]."""
        return self._apply_in_double(self.decoder, latent_TE)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The codebooks, float64 [L, K, E]."""
        return self.centre_LKE.detach().double().cpu().numpy()

    @torch.no_grad()
    def _apply_in_double(self, part: nn.Module, rows: FloatArray) -> npt.NDArray[np.float64]:
        kind = next((p.dtype for p in part.parameters()), torch.float64)
        device = self.centre_LKE.device
        made = part.double()(torch.as_tensor(rows, dtype=torch.float64, device=device))
        part.to(kind)
        return made.cpu().numpy()

    def loss(self, row_BD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of a batch, a scalar, the codes, int64 [B, L], and what each level described, [L, B, E]."""
        residual_BE = first_BE = self.encoder(row_BD)
        sum_BE = torch.zeros_like(first_BE)
        quantisation = torch.zeros((), device=row_BD.device, dtype=first_BE.dtype)
        codes, residuals = [], []
        for centre_KE in self.centre_LKE:
            residuals.append(residual_BE.detach())
            codes.append(torch.cdist(residuals[-1], centre_KE.detach()).argmin(1))
            chosen_BE = centre_KE[codes[-1]]
            quantisation = quantisation + mse_loss(chosen_BE, residual_BE.detach())
            quantisation = quantisation + BETA * mse_loss(residual_BE, chosen_BE.detach())
            residual_BE = residual_BE - chosen_BE.detach()
            sum_BE = sum_BE + chosen_BE.detach()
        rebuilt_BD = self.decoder(first_BE + (sum_BE - first_BE).detach())
        loss = mse_loss(rebuilt_BD, row_BD) + quantisation / len(self.centre_LKE)
        return loss, torch.stack(codes, 1), torch.stack(residuals)


def start_codebooks(model: RQVAE, row_FD: FloatArray, seed: int) -> None:
    """Set the codebooks to the k-means of the latent vectors of all titles.

    Args:
        model: its encoder makes the latent vectors.
        row_FD: the titles' vectors.
        seed: of the k-means.
    """
    levels, codes, _ = model.centre_LKE.shape
    made = kmeans_codebooks(model.latent(row_FD), levels=levels, codes=codes, seed=seed)
    with torch.no_grad():
        model.centre_LKE.copy_(torch.from_numpy(made))


def train_rqvae(model: RQVAE, row_FD: FloatArray, schedule: Schedule, run: Run) -> list[float]:
    """Train in place and return the mean loss of each epoch; the last epoch counts.

    Args:
        model: with codebooks already started.
        row_FD: the titles' vectors, in an order that does not depend on item ids.
        schedule: of the training.
        run: seeds and progress.

    Raises:
        ContractError: the loss is not finite.
    """
    rows = torch.as_tensor(row_FD, dtype=model.centre_LKE.dtype, device=model.centre_LKE.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.lr, weight_decay=DECAY)
    chance = torch.Generator().manual_seed(run.seed_for("batches"))
    idle_LK = torch.zeros(model.centre_LKE.shape[:2], dtype=torch.long)
    course = []
    for epoch in range(schedule.epochs):
        idle_LK += 1
        total, last = 0.0, rows[:0]
        for part_B in torch.randperm(len(rows), generator=chance).split(schedule.batch):
            loss, code_BL, last = model.loss(rows[part_B])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(part_B)
            for level, code_B in enumerate(code_BL.T):
                idle_LK[level, code_B.cpu()] = 0
        course.append(total / len(rows))
        if not np.isfinite(course[-1]):
            raise ContractError(f"the loss of epoch {epoch + 1} is {course[-1]}; lower the rate lr")
        _revive(model, idle_LK, last, chance)
        run.progress(epoch + 1, schedule.epochs, loss=course[-1])
    return course


@torch.no_grad()
def _revive(model: RQVAE, idle_LK: Tensor, last_LBE: Tensor, chance: Any) -> None:
    """Put codes that were not used for some epochs onto random residuals of the last batch."""
    for level, code in (idle_LK >= DEAD_AFTER).nonzero().tolist():
        row = torch.randint(last_LBE.shape[1], (), generator=chance)
        model.centre_LKE[level, code] = last_LBE[level, row]
        idle_LK[level, code] = 0


def _mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear maps with ReLU between them."""

    def layers() -> Iterator[nn.Module]:
        for width_in, width in pairwise(sizes):
            yield nn.Linear(width_in, width)
            yield nn.ReLU()

    return nn.Sequential(*list(layers())[:-1])
