"""The stage that gives every title of a catalogue a semantic id: a short sequence of codes.

Title vectors are whitened and quantised residually: level 1 names the nearest of K centroids, each further
level the nearest centroid of what is still left. ``rqkmeans`` finds the centroids by k-means, ``rqvae``
trains them together with an autoencoder. Titles that end with equal codes are told apart by a further code
(``suffix``), by another code at the last level of least total distance (``match``), or by codes of the last
level from Sinkhorn plans of the colliding titles (``sinkhorn``, as LC-Rec does); these cannot part equal
vectors, and what still collides gets the further code.

Only titles that occur in the training rows are fitted, and no code of theirs depends on any other title;
titles that were never trained on are encoded by what was fitted. Nothing depends on the numbering of the
items: it is that of the source and predicts targets.

Sources: Rajput et al. (TIGER), NeurIPS 2023; k-means instead of the autoencoder as in GRID (Snap, 2025).
T distinct titles, L levels, K codes, D width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from bench.cell import Need, Run, Size
from bench.config import Config
from bench.errors import ContractError, DataError
from bench.method import Method
from bench.registry import methods
from bench.types import Exam, FloatArray, Queries, Ranking, Windows
from llmrec.lm.chance import seeded
from llmrec.sid import _collisions
from llmrec.sid._measures import explained, measures
from llmrec.sid._quantise import Quantised, kmeans_codebooks, quantise
from llmrec.sid._rqvae import RQVAE, Schedule, start_codebooks, train_rqvae
from llmrec.sid._titles import Titles
from llmrec.sid.codes import Codes, hash_of
from llmrec.title_whitening import FitOn, Whiten, fit_whitening, require_finite

MEASURES = "measures.json"
SIZES = ((4000, 64), (10_000, 128))  # below so many items, so many codes a level
LARGEST = 256


class SidTokensConfig(Config):
    """How titles become codes."""

    text_encoder: str = "minilm"
    """Encoder of titles: minilm, hash or a local folder with a sentence encoder."""
    whiten: Whiten = "pca"
    """What is taken out of the vectors first: none, center, pca (128 directions) or zca."""
    fit_on: FitOn = "seen"
    """Titles that whitening and codebooks are fitted on: those of the training rows (``seen``), or ``all``,
    which looks at the future catalogue and is transductive."""
    tokenizer: Literal["rqkmeans", "rqvae"] = "rqkmeans"
    """What finds the centroids: k-means of residuals, or a residual-quantised autoencoder."""
    levels: PositiveInt = 3
    """L, codes of a title before collisions are repaired."""
    codes: PositiveInt | None = None
    """K, codes of each level; null for 64 below 4,000 items, 128 below 10,000, else 256."""
    collisions: Literal["suffix", "match", "sinkhorn"] = "suffix"
    """Titles of equal codes get a further code (``suffix``), or another one at the last level: by least total
    distance (``match``), or by Sinkhorn plans (``sinkhorn``) and a further code for what these leave."""
    shuffled: bool = False
    """Deal the finished codes out at random, as a control: equal tree, no meaning."""
    epochs: PositiveInt = 500
    """Passes over the titles (``rqvae``)."""
    lr: PositiveFloat = 1e-3
    """Step size of AdamW (``rqvae``)."""
    batch: PositiveInt = 1024
    """Titles a step (``rqvae``)."""


class Found(NamedTuple):
    """Codes before collisions are repaired, with what the repair and the measures need.

    Attributes:
        quantised: codes and residuals of all titles.
        last_KD: centroids of the last level.
        rebuilt_TD: reconstruction of the whitened vectors.
    """

    quantised: Quantised
    last_KD: FloatArray
    rebuilt_TD: FloatArray


@methods.register("sid_tokens")
class SidTokens(Method):
    """Semantic ids of all titles.

    Attributes:
        codes: of every item; set by ``fit``.
        measured: see ``measures``.
    """

    family = "stage"
    Config = SidTokensConfig
    config: SidTokensConfig
    tags = frozenset({"text"})
    toy: ClassVar = {"text_encoder": "hash", "codes": 6, "epochs": 3}
    codes: Codes
    measured: dict[str, Any]

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The vectors of all titles.

        Args:
            config: the method's configuration.
            loss: it has none.
            backbone: it has none.
        """
        return {
            "titles": Need(method="title_vectors", config={"text_encoder": config.text_encoder})
        }

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """Seconds on two cores: k-means of each level, or the epochs of the autoencoder."""
        epochs = config.epochs if config.tokenizer == "rqvae" else 0
        return 5 + size.n_items * (2e-3 * config.levels + 1e-4 * epochs)

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Fit whitening and codebooks on the titles of the training rows and encode all titles.

        Raises:
            DataError: a vector is not finite, or no title can be fitted.
            ConfigError: more codes than distinct vectors, or more titles than ``match`` has codes for.
        """
        c, stage = self.config, run.load("titles")
        vector_ND: Any = stage.vectors_ND  # type: ignore[attr-defined]
        require_finite(vector_ND, train.catalogue.titles)
        titles = Titles.of(train.catalogue, train.seen)
        fit_T = ~titles.blank_T & (titles.seen_T if c.fit_on == "seen" else True)
        if not fit_T.any():
            raise DataError("no item of the training rows has a title, so there is nothing to fit")
        vector_TD = vector_ND[titles.item_T]
        white_TD = fit_whitening(vector_TD[fit_T], c.whiten)(vector_TD)
        k = c.codes or next((k for n, k in SIZES if train.n_items < n), LARGEST)
        found = self._find(white_TD, white_TD[fit_T], k, run)
        code_TL, seen_T = found.quantised.code_TL, titles.seen_T
        self.measured = {
            **measures(code_TL, (k,) * c.levels, seen_T),
            "reconstruction_r2": explained(white_TD[fit_T], found.rebuilt_TD[fit_T]),
        }
        code_TL, sizes = self._repaired(found, seen_T, k)
        if c.shuffled:
            code_TL = _collisions.shuffled(code_TL, seen_T, run.seed_for("shuffled"))
        code_NL = np.where(titles.of_N[:, None] < 0, -1, code_TL[titles.of_N]).astype(np.int32)
        self.codes = Codes(code_NL, sizes, hash_of(train.catalogue.titles))
        run.facts.update(self.measured, sizes=list(sizes))

    def _find(self, white_TD: FloatArray, fit_FD: FloatArray, k: int, run: Run) -> Found:
        c, seed = self.config, run.seed_for("codebooks")
        if c.tokenizer == "rqkmeans":
            centre_LKD = kmeans_codebooks(fit_FD, levels=c.levels, codes=k, seed=seed)
            quantised = quantise(white_TD, centre_LKD)
            return Found(quantised, centre_LKD[-1], white_TD - quantised.residual_LTD[-1])
        with seeded(run.seed_for("weights")):
            model = RQVAE(fit_FD.shape[1], levels=c.levels, codes=k).to(run.device)
        start_codebooks(model, fit_FD, seed)
        schedule = Schedule(epochs=c.epochs, lr=c.lr, batch=c.batch)
        run.facts["loss_by_epoch"] = train_rqvae(model, fit_FD, schedule, run)
        quantised = quantise(model.latent(white_TD), model.centres)
        chosen_TE = quantised.residual_LTD[0] - quantised.residual_LTD[-1]
        return Found(quantised, model.centres[-1], model.rebuilt(chosen_TE))

    def _repaired(self, found: Found, seen_T: Any, k: int) -> tuple[Any, tuple[int, ...]]:
        """Codes without collisions, and K of each level."""
        code_TL, residual_LTD = found.quantised.code_TL, found.quantised.residual_LTD
        levels = (k,) * code_TL.shape[1]
        if self.config.collisions == "match":
            return _collisions.matched(code_TL, seen_T, residual_LTD[-2], found.last_KD), levels
        if self.config.collisions == "sinkhorn":
            code_TL = _collisions.balanced(code_TL, seen_T, residual_LTD[-2], found.last_KD)
            left = len(code_TL) - len(np.unique(code_TL, axis=0))
            self.measured["collision_rate_after_sinkhorn"] = left / len(code_TL)
            if not left:
                return code_TL, levels
        code_TL = _collisions.with_suffix(code_TL, seen_T)
        return code_TL, (*levels, int(code_TL[:, -1].max()) + 1)

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """A stage does not rank.

        Raises:
            ContractError: always.
        """
        raise ContractError("sid_tokens is a stage: it makes semantic ids and ranks nothing")

    def save(self, folder: Path) -> None:
        """Write the codes and what was measured of them."""
        self.codes.save(folder)
        (folder / MEASURES).write_text(json.dumps(self.measured))

    def load(self, folder: Path, *, device: str) -> None:
        """Read what ``save`` wrote.

        Raises:
            ArtefactError: the folder holds something else.
        """
        self.codes = Codes.load(folder)
        self.measured = json.loads((folder / MEASURES).read_text())
