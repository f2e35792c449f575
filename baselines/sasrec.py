"""SASRec: self-attention over the history (Kang and McAuley, ICDM 2018), by RecBole."""

from __future__ import annotations

from typing import Any, ClassVar

from baselines.sequential import Sequential
from bench.registry import methods


@methods.register("sasrec")
class SASRec(Sequential):
    """Causal Transformer whose last state is compared with every item.

    It takes any loss over items: ``ce`` is RecBole's, ``bce`` the original's and that of the paper's authors.
    Under the faithful profile the softmax of ``ce`` counts the padding row, as RecBole's does. Downstream
    methods use ``item_vectors``, ``user_vectors`` and ``seen``.
    """

    takes = frozenset({"item"})
    default_loss = "ce"
    released: ClassVar = {"ce": "ce_padded"}
    search: ClassVar = {
        "learning_rate": (1e-3, 5e-4),
        "dropout": (0.2, 0.5),
        "batch_size": (256, 2048),
    }

    @classmethod
    def module(cls) -> type:
        """The torch class."""
        from baselines.causal import CausalModel

        return CausalModel

    def options(self) -> dict[str, Any]:
        """The loss."""
        return self.trained_with(self.loss or self.default_loss)
