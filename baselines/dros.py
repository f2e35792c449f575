"""DROS: SASRec with distributionally robust optimisation (Yang et al., SIGIR 2023)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import NonNegativeFloat, PositiveFloat

from baselines.sequential import Sequential, SequentialConfig
from bench.registry import methods


class DROSConfig(SequentialConfig):
    """SASRec's configuration and the robust term."""

    dro_alpha: NonNegativeFloat = 0.1
    """Weight of the robust term; 0 is SASRec. Published code: 0 by default; tune it."""
    dro_beta: PositiveFloat = 1.0
    """Temperature b0 of the robust term."""
    dro_power: float = 0.05
    """Exponent of the item propensities."""


@methods.register("dros")
class DROS(Sequential):
    """SASRec whose loss adds a robust term over all items, weighted by popularity.

    The loss names what the term is added to: ``bce`` as in the original, or any other over items. Under the
    faithful profile the output layer is untied and BCE is taken at the last position only.
    """

    takes = frozenset({"item"})
    default_loss = "bce"
    released: ClassVar = {"bce": "bce_last"}
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
        """The loss and the robust term."""
        term = {key: getattr(self.config, key) for key in ("dro_alpha", "dro_beta", "dro_power")}
        return self.trained_with(self.loss or self.default_loss) | term
