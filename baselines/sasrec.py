"""SASRec: self-attention over the history (Kang and McAuley, ICDM 2018), by RecBole."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat

from baselines.sequential import Sequential, SequentialConfig
from bench.config import later
from bench.registry import methods


class SASRecConfig(SequentialConfig):
    """The shared configuration and how closely RecBole's own code is followed."""

    as_recbole: bool = False
    """Compute user vectors and steps of Adam by RecBole's own code: the same to rounding, with dropout drawn
    in another order."""
    ce_padding: bool = False
    """Count the padding row as an item in the softmax of the loss ``ce``, as RecBole's does."""
    similarity: Literal["dot", "cosine"] = later(default="dot")
    """How states are compared with items."""
    tau: PositiveFloat = later(default=0.05)
    """Temperature of the cosine; not read with ``dot``."""


@methods.register("sasrec")
class SASRec(Sequential):
    """Causal Transformer whose last state is compared with every item.

    It takes any loss over items: ``ce`` is RecBole's, ``bce`` the original's and that of the paper's authors.
    Downstream methods use ``item_vectors``, ``user_vectors`` and ``seen``.
    """

    takes = frozenset({"item"})
    default_loss = "ce"
    Config = SASRecConfig
    search: ClassVar = {
        "learning_rate": (1e-3, 5e-4),
        "dropout": (0.2, 0.5),
        "batch_size": (256, 2048),
    }

    @classmethod
    def module(cls) -> type:
        """The torch class."""
        from baselines.cosine import CosineModel

        return CosineModel

    def options(self) -> dict[str, Any]:
        """The loss, whose code computes the user vectors, and the temperature of the cosine."""
        loss = self.loss or self.default_loss
        if loss == "ce" and self.config.ce_padding:
            loss = "ce_padded"
        tau = self.config.tau if self.config.similarity == "cosine" else None
        return self.trained_with(loss) | {"as_recbole": self.config.as_recbole, "tau": tau}
