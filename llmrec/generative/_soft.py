"""The base class of LLaRA and A-LLMRec: a recommender's vectors as soft tokens of a language model.

Subclasses give the vectors (``gather``) and the projections (``maps``); building, saving and the optimizer's
groups are the same for both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from safetensors.numpy import load_file, save_file

from baselines.sequential import Sequential
from bench.cell import Need, Run
from bench.errors import ArtefactError
from bench.method import Method
from bench.types import Windows
from llmrec.generative._config import GenerativeConfig
from llmrec.generative._expert import sasrec_need
from llmrec.generative._generative import Generative
from llmrec.lm.backbone import Backbone
from llmrec.lm.chance import seeded
from llmrec.lm.soft_tokens import Curriculum, ItemVectors, SoftBackbone, SoftTokens
from llmrec.lm.soft_users import Users
from llmrec.training.loop import Recipe

TABLES = "collaborative.safetensors"
FLOOR, WARMUP = 0.01, 0.05  # of the cosine schedules: shares of the peak and of all steps
TOY_SASREC = {"epochs": 2, "hidden_size": 16, "inner_size": 32}


class SoftConfig(GenerativeConfig):
    """Configuration of methods with soft tokens."""

    projector_lr: PositiveFloat | None = None
    """Peak learning rate of the projections; null for that of the adapters."""
    projector_wd: NonNegativeFloat = 0.0
    """Weight decay of the projections."""
    schedule: Literal["linear", "cosine", "cosine_from_start"] = "linear"
    """``linear`` to 0, or ``cosine`` with a warm-up over 1/20 of the steps, both from and to 1/100 of the
    peak; ``cosine_from_start`` counts the cosine from the first step, so that it has begun to fall when the
    warm-up ends."""
    sasrec: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the SASRec whose vectors are used."""
    sasrec_loss: Literal["ce", "bce"] = "ce"
    """Loss of that SASRec."""


def sequential(method: Method) -> Sequential:
    """A needed method, checked to be a sequential recommender with item and user vectors."""
    assert isinstance(method, Sequential), (
        f"the need 'sasrec' is {method.name!r}, which has no vectors"
    )
    return method


class SoftGenerative(Generative):
    """A method whose prompts carry vectors of a recommender."""

    Config = SoftConfig
    config: Any

    @classmethod
    def needs(cls, config: Any, *, loss: str | None, backbone: str | None) -> Mapping[str, Need]:
        """A SASRec, shared by all cells that ask for the same one; and what a preference loss starts from."""
        first = super().needs(config, loss=loss, backbone=backbone)
        return {**first, "sasrec": sasrec_need(config)}

    def gather(self, train: Windows, run: Run) -> ItemVectors:
        """The item vectors from the needed artefacts, once these are checked.

        Args:
            train: training rows.
            run: where the artefacts are.

        Raises:
            ArtefactError: they belong to other data.
        """
        raise NotImplementedError

    def maps(self, width_in: int, width: int) -> dict[str, torch.nn.Module]:
        """New projections into the language model, under the argument names of ``SoftTokens``.

        Args:
            width_in: width of the item vectors.
            width: of the language model.
        """
        raise NotImplementedError

    def curriculum(self) -> Curriculum | None:
        """Decides when training shows the vectors; None for always."""
        return None

    users: Users | None = None
    _items: ItemVectors

    @property
    def frozen(self) -> bool:
        """Whether the language model stays as it is, so that only the projections are trained."""
        return False

    def dress(self, lm: Backbone, train: Windows, run: Run) -> Backbone:
        """The backbone with soft tokens and new projections."""
        self._items = self.gather(train, run)
        run.facts["items_without_vector"] = int((~self._items.known_N[1:]).sum())
        self._slot_seed = run.seed_for("projection")
        self._curriculum_seed = run.seed_for("curriculum")
        return self._soft(lm)

    def undress(self, folder: Path) -> None:
        """Save the frozen tables; the projections are among the weights whatever their gradients."""
        tables = {
            "vector": np.ascontiguousarray(self._items.vector_NF),
            "known": self._items.known_N,
        }
        save_file(tables, folder / TABLES)

    def redress(self, lm: Backbone, folder: Path) -> Backbone:
        """The backbone with soft tokens as saved; the weights of the projections are loaded later."""
        if not (folder / TABLES).is_file():
            raise ArtefactError(f"no {TABLES} in {folder}; run the cell again with --reuse never")
        tables = load_file(folder / TABLES)
        self._items = ItemVectors(tables["vector"], tables["known"])
        return self._soft(lm)

    _slot_seed = _curriculum_seed = 0

    def _soft(self, lm: Backbone) -> SoftBackbone:
        width = int(lm.causal.get_input_embeddings().weight.shape[1])
        with seeded(self._slot_seed):
            maps = self.maps(self._items.vector_NF.shape[1], width)
        users = self.users if "user" in maps else None
        soft = SoftTokens(self._items, width=width, users=users, seed=self._slot_seed, **maps)
        c = self.config
        options = {"weight_decay": c.projector_wd}
        if c.projector_lr is not None:
            options["lr"] = c.projector_lr
        return SoftBackbone(
            lm, soft, curriculum=self.curriculum(), frozen=self.frozen, options=options
        )

    def recipe(self) -> Recipe:
        """Hyperparameters of the optimizer, from the configuration."""
        recipe = super().recipe()
        if self.config.schedule == "linear":
            return recipe
        return dataclasses.replace(
            recipe, schedule=self.config.schedule, floor=FLOOR, warmup_steps=WARMUP
        )
