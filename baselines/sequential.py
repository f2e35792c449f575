"""The base class of SASRec, BERT4Rec and DROS. Torch and RecBole are imported when first needed.

To build on one of them (an enriched item table, say), subclass the method, override ``module`` (the torch
class), ``options`` (keys it reads) or ``prepare`` (what to set on the module before training). Another loss
is a file of its own, see ``baselines.losses``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import Self

from bench.cell import Run, Size
from bench.config import Config
from bench.errors import ConfigError, DataError
from bench.method import Family, Method
from bench.types import BoolArray, Exam, Queries, Ragged, Ranking, Windows

WEIGHTS, VECTORS, SHAPE = "weights.safetensors", "vectors.safetensors", "shape.json"


class SequentialConfig(Config):
    """Size and training of a Transformer over item ids; defaults are RecBole's unless said otherwise."""

    hidden_size: PositiveInt = 64
    """Width of item vectors and states."""
    inner_size: PositiveInt = 256
    """Width inside the feed-forward block."""
    n_layers: PositiveInt = 2
    """Transformer layers."""
    n_heads: PositiveInt = 2
    """Attention heads; must divide the hidden size."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout of embeddings, states and attention weights."""
    max_length: PositiveInt = 10
    """Most recent history items that are read (windows of the paper hold at most 10)."""
    learning_rate: PositiveFloat = 1e-3
    """Step size of Adam."""
    weight_decay: NonNegativeFloat = 0.0
    """L2 penalty inside Adam."""
    batch_size: PositiveInt = 256
    """Training rows a step (RecBole: 2048, the authors' own SASRec: 256)."""
    epochs: PositiveInt = 100
    """Most epochs."""
    patience: NonNegativeInt = 10
    """Training stops after more than this many epochs without a better validation NDCG@5."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_size % self.n_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of n_heads {self.n_heads}"
            )
        return self


class Sequential(Method):
    """A sequential model trained by RecBole's Trainer, chosen by validation NDCG@5.

    Attributes:
        model: the torch module, once fitted or loaded.
        seen: items that occur in the training rows, bool [N + 1]; the vectors of others are untrained.
    """

    family: ClassVar[Family] = "traditional"
    Config: ClassVar[type[Config]] = SequentialConfig
    toy: ClassVar[Mapping[str, Any]] = {"epochs": 3}
    seconds_per_row: ClassVar[float] = 2.5e-4  # one epoch on two cores at 6,000 items, rounded up
    typical_epochs: ClassVar[int] = 30

    model: Any
    seen: BoolArray

    @classmethod
    def module(cls) -> type:
        """The torch class, a subclass of a RecBole model; imports torch."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """RecBole keys of the model besides the shared ones."""
        return {}

    def trained_with(self, loss: str, **options: Any) -> dict[str, Any]:
        """Keys that name the loss over items.

        Args:
            loss: a registered one.
            **options: of that loss.
        """
        return {"objective": loss, "objective_options": options}

    def prepare(self, model: Any, train: Windows, run: Run) -> None:
        """Tell the new module which positions of the training rows a loss over every interaction trains.

        Args:
            model: the torch module.
            train: training rows.
            run: seeds and inputs.
        """
        loss = getattr(model, "item_loss", None)
        if loss is not None and loss.positions == "once":
            from baselines.causal import once_each

            model.attach_positions(once_each(train, self.width))

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Train; see ``baselines.training.train`` for checkpoints and facts.

        Raises:
            DataError: no row has a history.
            ContractError: the loss is not finite.
            Unavailable: RecBole is not installed.
        """
        import torch

        from baselines import training

        self.seen = train.seen
        if not (train.history.lengths > 0).any():
            raise DataError(f"{self.name}: none of the {len(train)} training rows has a history")
        history = train.sequences if self.with_target else train.history
        columns = training.columns(history, train.target_W, self.width)
        with torch.random.fork_rng():
            torch.manual_seed(run.seed_for("weights"))
            config, dataset = self.build(columns, train.n_items, run.folder, run.device)
            self.prepare(self.model, train, run)
            training.seed_everything(run.seed_for("dropout"))
            course = training.Course(
                valid=valid,
                train_count=train.target_count,
                width=self.config.max_length,
                batch_size=self.config.batch_size,
                run=run,
            )
            training.train(self.model, config, dataset, course)

    @property
    def with_target(self) -> bool:
        """Whether training rows hold the target as well, because the model masks items itself."""
        return False

    @property
    def width(self) -> int:
        """Length of the rows the model is trained on."""
        return self.config.max_length + self.with_target

    def build(self, columns: Any, n_items: int, folder: Path, device: str) -> tuple[Any, Any]:
        """Make the torch module; returns RecBole's configuration and dataset.

        Args:
            columns: fields of the training rows, from ``baselines.training.columns``.
            n_items: N.
            folder: RecBole may create its checkpoint folder there.
            device: ``cpu``, ``cuda`` ...
        """
        from baselines import _recbole as rb

        c = self.config
        keys = ("hidden_size", "inner_size", "n_layers", "n_heads", "learning_rate", "weight_decay")
        options = {key: getattr(c, key) for key in keys} | {
            "hidden_dropout_prob": c.dropout,
            "attn_dropout_prob": c.dropout,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "initializer_range": 0.02,
            "epochs": c.epochs,
            "stopping_step": c.patience,
            "MAX_ITEM_LIST_LENGTH": self.width,
            **self.options(),
        }
        config = rb.settings(self.module(), options, folder=folder, device=device)
        columns = {name: column.to(device) for name, column in columns.items()}
        dataset = rb.ArrayDataset(config, columns, n_items)
        dataset.check_identity()
        self.model = self.module()(config, dataset).to(device)
        return config, dataset

    def recommend(self, queries: Queries, k: int) -> Ranking:
        """The ``k`` items with the highest scores; the history is not excluded."""
        from baselines.training import rank

        return rank(self.model, queries.history, k, self.config.max_length)

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """Item vectors that user vectors are compared with, float32 [N + 1, D]; row 0 is zeros."""
        import torch

        with torch.inference_mode():
            table = self.model.item_table().detach().cpu().float().numpy().copy()
        table[0] = 0
        return table

    def user_vectors(self, history: Ragged) -> npt.NDArray[np.float32]:
        """The state after each history, float32 [Q, D], in evaluation mode."""
        from baselines.training import encode

        return encode(self.model, history, self.config.max_length)

    def save(self, folder: Path) -> None:
        """Write weights, item vectors with ``seen``, and the shape, without pickles."""
        from safetensors.numpy import save_file

        state = {
            k: v.detach().cpu().contiguous().numpy() for k, v in self.model.state_dict().items()
        }
        save_file(state, folder / WEIGHTS)
        save_file({"item_emb": self.item_vectors(), "seen": self.seen}, folder / VECTORS)
        shape = {"n_items": len(self.seen) - 1}
        (folder / SHAPE).write_text(json.dumps(shape))

    def load(self, folder: Path, *, device: str) -> None:
        """Build the module and fill it with the saved weights."""
        import torch
        from safetensors.torch import load_file

        from baselines.training import columns

        shape = json.loads((folder / SHAPE).read_text())
        nothing = columns(Ragged.of([]), np.zeros(0, np.int64), self.width)
        with torch.random.fork_rng():
            self.build(nothing, shape["n_items"], folder, device)
        self.model.load_state_dict(load_file(folder / WEIGHTS, device=device))
        self.model.eval()
        self.seen = load_file(folder / VECTORS)["seen"].numpy()

    @classmethod
    def estimate_seconds(cls, config: Any, size: Size) -> float:
        """Seconds of a typical training on two cores, from the rows and the size of the catalogue."""
        epochs = min(config.epochs, cls.typical_epochs)
        per_row = cls.seconds_per_row * (0.5 + size.n_items / 12_000) * config.hidden_size / 64
        return 5.0 + epochs * size.train_rows * per_row + size.test_rows * size.n_items * 2e-8
