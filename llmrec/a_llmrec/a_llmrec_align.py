"""A-LLMRec, stage 1: the items of a recommender and the titles of a catalogue in one space.

Frozen: SASRec. Trained: an autoencoder of its item vectors, one of the title vectors, and, if asked for, the
text encoder. Rows are all training windows, whatever the language model later trains on. The result is a
joint vector for each item: of the item if SASRec saw it, of its title if not. It does not depend on the loss
or decoder of stage 2, so all cells of a dataset and seed share one stage 1.

Source: see ``_align``. Axes: W training rows, N items, D, T and E widths as there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from safetensors.numpy import load_file, save_file

from bench.cell import Need, Run, Size
from bench.config import Config
from bench.errors import ArtefactError, ConfigError
from bench.method import Method
from bench.registry import methods
from bench.types import BoolArray, Catalogue, Exam, IntArray, Queries, Ranking, Windows
from llmrec.a_llmrec._align import Weights, agreement
from llmrec.a_llmrec._align_training import Aligner, Rows, Schedule
from llmrec.a_llmrec._align_training import train as train_aligner
from llmrec.generative._expert import sasrec_need
from llmrec.generative._soft import TOY_SASREC
from llmrec.lm import backbone as backbones
from llmrec.lm.names import EMBEDDED
from llmrec.lm.soft_tokens import ItemVectors, Vectors, check_trained_on, fingerprint
from llmrec.lm.text_encoder import BACKBONE, load_encoder

JOINT, META = "joint.safetensors", "joint.json"
NOTHING, ITEM, TEXT = 0, 1, 2  # where the joint vector of an item comes from


class AlignConfig(Config):
    """Configuration of stage 1; numbers are the authors'."""

    a: NonNegativeFloat = 0.5
    """Weight of the item reconstruction."""
    b: NonNegativeFloat = 0.2
    """Weight of the text reconstruction (paper: 0.5 for movies and games)."""
    rec_score: Literal["mean", "dot"] = "mean"
    """Recommendation score: ``mean`` (released code) or ``dot`` (paper)."""
    latent: PositiveInt = 128
    """Width of the joint space."""
    text_encoder: str = "minilm"
    """``minilm``, ``backbone``, ``hash`` or a local folder, see ``llmrec.lm.text_encoder``."""
    text_trainable: bool = False
    """Fine-tune the text encoder with the rest."""
    quoted_title: bool = False
    """Let the text encoder read titles in double quotes."""
    shuffle: bool = True
    """New order of the rows each epoch."""
    lr: PositiveFloat = 1e-4
    """Step size of Adam (0.9, 0.98)."""
    batch: PositiveInt = 32
    """Rows per step."""
    epochs: PositiveInt = 10
    """Passes over the rows."""
    sasrec: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the recommender."""
    sasrec_loss: Literal["ce", "bce"] = "ce"
    """Loss of the recommender."""


@dataclass(frozen=True, eq=False)
class Joint:
    """The result of stage 1.

    Attributes:
        item_NE, text_NE: latent vectors of items and of titles, float32 [N + 1, E]; row 0 is zeros.
        seen_N: items the recommender was trained on.
        has_text_N: items with a title of their own.
        mean_D: the recommender's state of an average training row, float32 [D].
        sasrec: fingerprint of the recommender.
    """

    item_NE: Vectors
    text_NE: Vectors
    seen_N: BoolArray
    has_text_N: BoolArray
    mean_D: Vectors
    sasrec: str

    def source(self, unseen: str) -> IntArray:
        """Where each item's vector comes from (NOTHING, ITEM, TEXT), int8 [N + 1].

        Args:
            unseen: what an item gets that the recommender never saw: its ``text``, its ``raw`` item
                vector, or a ``placeholder`` (NOTHING).
        """
        source_N = np.where(self.seen_N, ITEM, NOTHING).astype(np.int8)
        if unseen == "text":
            source_N[~self.seen_N & self.has_text_N] = TEXT
        if unseen == "raw":
            source_N[:] = ITEM
        source_N[0] = NOTHING
        return source_N

    def vectors(self, unseen: str) -> ItemVectors:
        """The joint vector of each item."""
        source_N = self.source(unseen)
        vector_NE = np.where((source_N == TEXT)[:, None], self.text_NE, self.item_NE)
        return ItemVectors(vector_NE.astype(np.float32), source_N != NOTHING)


@methods.register("a_llmrec_align")
class Align(Method):
    """Trains the joint space of A-LLMRec."""

    family = "stage"
    Config = AlignConfig
    config: AlignConfig
    tags: ClassVar = frozenset({"text"})
    toy: ClassVar = {"text_encoder": "hash", "latent": 16, "epochs": 2, "sasrec": TOY_SASREC}
    joint: Joint

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """The recommender."""
        return {"sasrec": sasrec_need(config)}

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """Seconds on two cores: small matrices, and the text encoder once or in every step."""
        steps = config.epochs * size.train_rows / config.batch
        return 5 + 0.004 * steps + (0.8 * steps if config.text_trainable else 0.01 * size.n_items)

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """Not defined: a stage makes no lists."""
        raise NotImplementedError("stage 1 makes vectors for a_llmrec; it never ranks")

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Train both autoencoders; goes on from the last epoch after an interruption.

        Raises:
            Unavailable: the text encoder is not on this machine.
            ArtefactError: the recommender was trained on other rows.
            ContractError: the loss is not finite.
        """
        sasrec: Any = run.load("sasrec")
        check_trained_on(sasrec.seen, train, "sasrec")
        if not np.array_equal(sasrec.seen, train.seen):
            raise ArtefactError("sasrec was trained on more rows than these; use --reuse never")
        aligner = self._aligner(train, sasrec, run)
        some = np.flatnonzero(train.history.lengths > 0)
        history = train.history.take(some)
        user_WD = sasrec.user_vectors(history)
        rows = Rows(
            torch.from_numpy(user_WD).to(run.device),
            train.sequences.take(some),
            sasrec.seen,
        )
        c = self.config
        schedule = Schedule(lr=c.lr, batch=c.batch, epochs=c.epochs, shuffle=c.shuffle)
        course = train_aligner(aligner, rows, Weights(c.a, c.b, c.rec_score), schedule, run)
        item_NE, text_NE = (latent.cpu().numpy() for latent in aligner.joint())
        self.joint = Joint(
            item_NE,
            text_NE,
            sasrec.seen,
            has_text(train.catalogue),
            user_WD.mean(0),
            fingerprint(sasrec.item_vectors(), sasrec.seen),
        )
        self._note(course, aligner, run)

    def _aligner(self, train: Windows, sasrec: Any, run: Run) -> Aligner:
        c, lm = self.config, None
        if c.text_encoder == BACKBONE:
            lm = backbones.load(self.backbone or EMBEDDED, device=run.device)
        encoder = load_encoder(c.text_encoder, device=run.device, lm=lm)
        if c.text_trainable and not encoder.trainable:
            raise ConfigError(
                f"text_trainable is True, but the encoder {c.text_encoder!r} has nothing to train; "
                "set it to False or name a sentence encoder"
            )
        self._encoder = encoder.identity
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed_for("weights"))
            return Aligner(
                sasrec.item_vectors(),
                texts(train.catalogue, quoted=c.quoted_title),
                encoder,
                latent=c.latent,
                trains=c.text_trainable,
                cache=run.folder,
            ).to(run.device)

    def _note(self, course: list[dict[str, float]], aligner: Aligner, run: Run) -> None:
        trained = [p for p in aligner.parameters() if p.requires_grad]
        matched, strange = agreement(self.joint.item_NE, self.joint.text_NE, self.joint.seen_N)
        run.facts.update(
            {
                "text_encoder": self._encoder,
                "epochs": len(course),
                "loss_by_epoch": [losses["total"] for losses in course],
                "loss_parts": course[-1],
                "cosine_matched": matched,
                "cosine_random": strange,
                "parameters_trained": sum(p.numel() for p in trained),
            }
        )

    def save(self, folder: Path) -> None:
        """Write the joint space."""
        joint = vars(self.joint)
        arrays = {k: np.ascontiguousarray(v) for k, v in joint.items() if k != "sasrec"}
        save_file(arrays, folder / JOINT)
        (folder / META).write_text(json.dumps({"sasrec": self.joint.sasrec}))

    def load(self, folder: Path, *, device: str) -> None:
        """Read what ``save`` wrote.

        Raises:
            ArtefactError: the folder holds something else.
        """
        if not (folder / META).is_file():
            raise ArtefactError(f"no {META} in {folder}; run the cell again with --reuse never")
        meta = json.loads((folder / META).read_text())
        self.joint = Joint(**load_file(folder / JOINT), sasrec=meta["sasrec"])


def has_text(catalogue: Catalogue) -> BoolArray:
    """Items with a title of their own, bool [N + 1]."""
    own = (bool(t.strip()) and t != f"Item {item}" for item, t in enumerate(catalogue.titles))
    return np.fromiter(own, bool, len(catalogue.titles))


def texts(catalogue: Catalogue, *, quoted: bool = False) -> list[str]:
    """What the text encoder reads of each item, by item id; the titles are all that the data holds.

    Args:
        catalogue: the items; one without a title is called ``Item`` with its id.
        quoted: put each title in double quotes.
    """
    titles = [t.strip() or f"Item {item}" for item, t in enumerate(catalogue.titles) if item]
    return ["", *(f'"{title}"' for title in titles)] if quoted else ["", *titles]
