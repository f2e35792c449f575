"""DROS: SASRec with distributionally robust optimisation (Yang et al., SIGIR 2023)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, model_validator
from typing_extensions import Self

from baselines.sequential import Sequential, SequentialConfig
from bench.errors import ConfigError
from bench.registry import methods


class RobustConfig(SequentialConfig):
    """SASRec's configuration, what the authors' network has otherwise, and the robust term."""

    tied: bool = True
    """The item table is also the output layer; false for one of its own with a bias."""
    activation: Literal["gelu", "relu"] = "gelu"
    """Activation inside the feed-forward block."""
    norm_first: bool = False
    """Layer norms in front of attention and feed-forward block and at the end, instead of behind each."""
    dro_beta: PositiveFloat = 1.0
    """Temperature b0 of the robust term."""
    dro_power: float = 0.05
    """Exponent of the item propensities."""


class DROSConfig(RobustConfig):
    """Configuration of DROS."""

    dro_alpha: NonNegativeFloat = 0.1
    """Weight of the robust term; 0 is SASRec. Published code: 0 by default; tune it."""
    bce_positions: Literal["all", "last"] = "all"
    """Where the loss ``bce`` is taken: at every position, or at the last one only as in the released code."""

    @model_validator(mode="after")
    def _output_layer_is_trained(self) -> Self:
        if not self.tied and self.bce_positions == "all":
            raise ConfigError(
                "tied is False and bce_positions is 'all', where bce compares with the item table and would "
                "not train the output layer; set bce_positions to 'last'"
            )
        return self


def robust_options(config: Any) -> dict[str, Any]:
    """What ``RobustModel`` reads of a ``RobustConfig`` with a ``dro_alpha``, as RecBole keys."""
    keys = ("tied", "norm_first", "dro_alpha", "dro_beta", "dro_power")
    return {key: getattr(config, key) for key in keys} | {"hidden_act": config.activation}


@methods.register("dros")
class DROS(Sequential):
    """SASRec whose loss adds a robust term over all items, weighted by popularity.

    The loss names what the term is added to: ``bce`` as in the original, or any other over items.
    """

    takes = frozenset({"item"})
    default_loss = "bce"
    Config = DROSConfig
    search: ClassVar = {
        "dro_alpha": (0.01, 0.05, 0.1, 0.3, 0.5, 1.0),
        "dro_beta": (0.5, 1.0, 2.0),
        "learning_rate": (1e-3, 5e-4),
        "dropout": (0.1, 0.2, 0.5),
    }

    @classmethod
    def module(cls) -> type:
        """The torch class."""
        from baselines.causal import RobustModel

        return RobustModel

    def options(self) -> dict[str, Any]:
        """The loss, the network and the robust term."""
        loss = self.loss or self.default_loss
        if loss == "bce" and self.config.bce_positions == "last":
            loss = "bce_last"
        return self.trained_with(loss) | robust_options(self.config)
