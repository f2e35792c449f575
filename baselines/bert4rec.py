"""BERT4Rec: fill in masked items from both sides (Sun et al., CIKM 2019), by RecBole."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from typing_extensions import Self

from baselines.sequential import Sequential, SequentialConfig
from bench.errors import ConfigError
from bench.registry import methods


class BERT4RecConfig(SequentialConfig):
    """The shared configuration and the masks."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout of embeddings, states and attention weights."""
    patience: NonNegativeInt = 20
    """It learns more slowly than SASRec, so it may go longer without a better epoch."""
    epochs: PositiveInt = 200
    """Most epochs."""
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Probability that an item is masked."""
    ft_ratio: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of batches in which only the last item is masked."""
    masks: Literal["repaired", "recbole"] = "repaired"
    """``recbole`` keeps masks, loss and scores of RecBole 1.2.1 with three defects: a row's target is never
    trained on, prediction drops the first item of every history, and position 0 has no loss."""

    @model_validator(mode="after")
    def _masks_something(self) -> Self:
        if self.mask_ratio * self.max_length < 1:
            raise ConfigError(
                f"mask_ratio {self.mask_ratio} masks less than one of {self.max_length} items; "
                "raise one of them"
            )
        return self


@methods.register("bert4rec")
class BERT4Rec(Sequential):
    """Bidirectional Transformer that predicts the item at a mask behind the history.

    Three defects of RecBole with predefined windows are repaired (the target is trained on, the first
    item is kept, position 0 counts), unless ``masks`` is ``recbole``.
    """

    Config = BERT4RecConfig
    typical_epochs = 60
    seconds_per_row: ClassVar = 4e-4
    search: ClassVar = {
        "mask_ratio": (0.2, 0.4, 0.6),
        "dropout": (0.1, 0.2, 0.3),
        "learning_rate": (1e-3, 5e-4),
    }

    @classmethod
    def module(cls) -> type:
        """The torch class."""
        from baselines.masked import MaskedModel

        return MaskedModel

    def options(self) -> dict[str, Any]:
        """The masks."""
        masks = {key: getattr(self.config, key) for key in ("mask_ratio", "ft_ratio", "masks")}
        return masks if self.with_target else masks | {"transform": "mask_itemseq"}

    @property
    def with_target(self) -> bool:
        """Training rows hold the target, unless RecBole masks them."""
        return bool(self.config.masks == "repaired")
