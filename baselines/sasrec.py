"""SASRec: self-attention over the history (Kang and McAuley, ICDM 2018), by RecBole."""

from __future__ import annotations

from typing import Any, ClassVar

from baselines.sequential import Sequential
from bench.cell import Run
from bench.registry import methods
from bench.types import Windows


@methods.register("sasrec")
class SASRec(Sequential):
    """Causal Transformer whose last state is compared with every item.

    Losses: ``ce``, softmax over the catalogue at the last position of a window (RecBole's); ``ce_all``, the
    same over every interaction once, where ``ce`` passes over those before a user's first target; ``bce``,
    one sampled negative at every position, as in the original and in the code of the paper's authors.
    Downstream methods use ``item_vectors``, ``user_vectors`` and ``seen``.
    """

    losses = ("ce", "bce", "ce_all")
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

    def prepare(self, model: Any, train: Windows, run: Run) -> None:
        """Say which positions of the rows are trained."""
        if self.loss == "ce_all":
            from baselines.causal import once_each

            model.attach_positions(once_each(train, self.width))

    def options(self) -> dict[str, Any]:
        """The objective."""
        return {"objective": self.loss or self.losses[0]}
