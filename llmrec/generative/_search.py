"""The search space of a generative method: its learning rate and the options that its loss declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.config import Config
from bench.registry import losses
from llmrec.generative._config import ZERO_SHOT
from llmrec.lm.names import SCRATCH, TINY_NAME

FACTORS = (0.5, 1, 2, 5, 10)  # of the default learning rate


def search_space(
    config: type[Config], *, loss: str | None, backbone: str | None
) -> Mapping[str, tuple[Any, ...]]:
    """The values a tuning may try, by name; empty for ``zero_shot``, which trains nothing.

    A backbone without pretraining has the learning rate ``scratch_lr``; a loss that starts from a tuned model
    has one among its options.

    Args:
        config: the method's class of configurations.
        loss: name of its loss.
        backbone: name of its language model.
    """
    if loss == ZERO_SHOT:
        return {}
    kind: Any = losses.get(loss or "lml")
    rate = "scratch_lr" if backbone in {SCRATCH, TINY_NAME} else "lr"
    own = kind.starts_tuned
    rates = {("loss_options." if own else "") + rate: _around(kind.Config if own else config, rate)}
    return rates | {f"loss_options.{name}": values for name, values in kind.search.items()}


def _around(config: type[Config], rate: str) -> tuple[float, ...]:
    default = config.model_fields[rate].default
    return tuple(float(f"{factor * default:.2g}") for factor in FACTORS)
