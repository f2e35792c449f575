"""Chooses the layouts of a generative method's cell, once its backbone is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.method import configure
from bench.registry import losses
from llmrec.decode.generate import require_embeddings
from llmrec.generative._config import ZERO_SHOT
from llmrec.lm.device_costs import DeviceCosts, costs_of
from llmrec.lm.soft_tokens import SoftBackbone
from llmrec.preference.base import PreferenceLoss
from llmrec.support.layouts import Layouts, Wanted, layouts, part_of
from llmrec.support.probe import GENERATE, support_of

if TYPE_CHECKING:
    from llmrec.generative._decoding import Decoding


def layouts_for(method: Decoding) -> Layouts:
    """The layouts of a cell that give its backbone's own numbers.

    Args:
        method: with its backbone and its configuration.

    Raises:
        ConfigError: the backbone cannot be trained or decoded as configured; says what works.
    """
    c = method.config
    found = support_of(method.lm, longest=c.cutoff if c.fit_history else None)
    decoder = method._decoder()
    if isinstance(method.lm, SoftBackbone) and part_of(decoder) == GENERATE:
        require_embeddings(method.lm)
    return layouts(found, _wanted(c, method.loss, costs_of(method.lm.device)), decoder)


def _wanted(config: Any, loss: str | None, costs: DeviceCosts) -> Wanted:
    """What a configuration asks for on a device."""
    end_to_end = config.rows == "packed" or (config.rows == "auto" and costs.packed_rows)
    packed = costs.packed_tokens if end_to_end else 0
    if loss == ZERO_SHOT:
        return Wanted("nothing")
    kind = losses.get(loss or "lml")
    if not issubclass(kind, PreferenceLoss):
        return Wanted("tokens", share_opening=config.share_opening, packed=packed)
    route = configure(kind, config.loss_options, stored=True).route
    if route == "trl":  # which calls the model's own forward pass
        return Wanted("nothing", together=False)
    return Wanted(
        "preference",
        share_opening=config.share_opening,
        together=route == "shared_prefix",
        packed=packed,
    )
