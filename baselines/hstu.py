"""HSTU: gated attention that sums instead of averaging (Zhai et al., ICML 2024), as a row of the traditional.

Kept are the gate, SiLU in place of the softmax and the weights of distances; left out are the kernels,
caches and shortened sequences that make it fast on long histories. It is trained as SASRec is here, on every
interaction once and against all items, where the released code draws negatives, so that the two differ in
their layers alone. Times of history items are not in the data, so no bias reads them: the released one reads
the time of the target as well, in training and in the test.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from baselines.sequential import Sequential, SequentialConfig
from bench.cell import Run
from bench.errors import ConfigError
from bench.registry import methods
from bench.types import Exam, Windows


class HSTUConfig(SequentialConfig):
    """The shared configuration, with the blocks of HSTU for layers."""

    inner_size: PositiveInt = 64
    """Width of gate, values, queries and keys, each over all heads."""
    n_layers: PositiveInt = 2
    """Blocks."""
    similarity: Literal["dot", "cosine"] = "dot"
    """How states are compared with items."""
    tau: PositiveFloat = 0.05
    """Temperature of the cosine; not read with ``dot``."""

    @model_validator(mode="after")
    def _heads_divide_inner(self) -> Self:
        if self.inner_size % self.n_heads:
            raise ConfigError(
                f"inner_size {self.inner_size} is not a multiple of n_heads {self.n_heads}"
            )
        return self


@methods.register("hstu")
class HSTU(Sequential):
    """Blocks of HSTU in SASRec's frame, with any loss over items.

    The fact ``attention_length`` is n, by which attention sums are divided.
    """

    takes = frozenset({"item"})
    default_loss = "ce_all"
    Config = HSTUConfig
    search: ClassVar = {
        "learning_rate": (1e-3, 3e-4),
        "dropout": (0.2, 0.5),
        "similarity": ("dot", "cosine"),
        "n_layers": (2, 4),
    }

    @classmethod
    def module(cls) -> type:
        """The torch class."""
        from baselines._hstu import HSTUModel

        return HSTUModel

    def options(self) -> dict[str, Any]:
        """The loss, and the temperature of the cosine."""
        c = self.config
        tau = c.tau if c.similarity == "cosine" else None
        return self.trained_with(self.loss or self.default_loss) | {"tau": tau}

    def fit(self, train: Windows, valid: Exam, run: Run) -> None:
        """Train as SASRec; see there."""
        super().fit(train, valid, run)
        run.facts["attention_length"] = self.config.max_length
