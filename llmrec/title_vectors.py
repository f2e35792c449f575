"""The stage that encodes all titles of a catalogue once, for every floor that compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from bench.cell import Run, Size
from bench.config import Config
from bench.errors import ContractError
from bench.method import Method
from bench.registry import methods
from bench.types import Exam, Queries, Ranking, Windows
from llmrec.lm.names import BACKBONES

FILE = "vectors.safetensors"
SECONDS_PER_TITLE = 0.012


class TitleVectorsConfig(Config):
    """Who encodes the titles."""

    text_encoder: str = "minilm"
    """Encoder of titles: minilm, hash, a local folder with a sentence encoder, or backbone, the states of a
    language model."""


@methods.register("title_vectors")
class TitleVectors(Method):
    """Vectors of all titles, of unit length.

    Attributes:
        vectors_ND: by item id, zeros where a title is empty, float32 [N + 1, D]; set by ``fit``.
    """

    family = "stage"
    Config = TitleVectorsConfig
    toy: ClassVar = {"text_encoder": "hash"}
    tags = frozenset({"text"})
    backbones = BACKBONES

    def __init__(self, config: Any = None, **axes: str | None) -> None:
        super().__init__(config, **axes)
        self.vectors_ND: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """Seconds of one pass over the titles."""
        return SECONDS_PER_TITLE * size.n_items

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Encode the titles; nothing is learned.

        Raises:
            Unavailable: the encoder or the language model is not on this machine.
        """
        from llmrec.lm.backbone import load
        from llmrec.lm.text_encoder import encode_text

        seed = run.seed_for("weights")
        lm = load(self.backbone, device=run.device, seed=seed) if self.backbone else None
        self.vectors_ND = encode_text(
            train.catalogue.titles,
            encoder=self.config.text_encoder,
            device=run.device,
            normalised=True,
            lm=lm,
        )

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """A stage does not rank.

        Raises:
            ContractError: always.
        """
        raise ContractError("title_vectors is a stage: it encodes titles and ranks nothing")

    def save(self, folder: Path) -> None:
        """Write the vectors."""
        save_file({"vectors_ND": self.vectors_ND}, folder / FILE)

    def load(self, folder: Path, *, device: str) -> None:
        """Read the vectors; they stay on the CPU."""
        self.vectors_ND = load_file(folder / FILE)["vectors_ND"]
