"""torch.compile of a language model's layers while it trains.

A layer is compiled for each length of a row of tokens, of which there are few (``documents.Room``). Where
compiling fails, training goes on without it and the row says so; validation and search run without it, since
their shapes are many.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from bench.text.plain import printable

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone


class CompiledLayers:
    """The layers of a model, compiled or not.

    Args:
        lm: the model.
        wanted: whether to compile.
        backend: of torch.compile.

    Attributes:
        fact: ``no``, ``yes``, or ``no, as`` with what went wrong.
    """

    def __init__(self, lm: Backbone, *, wanted: bool, backend: str = "inductor") -> None:
        self._layers = layers_of(lm) if wanted else []
        self._calls: list[Any] = []
        self.fact = "no"
        if not wanted:
            return
        if not self._layers:
            self.fact = "no, as its layers are not in one list"
            return
        for layer in self._layers:
            layer.compile(dynamic=False, backend=backend)
        self._calls = [layer._compiled_call_impl for layer in self._layers]
        self.fact = "yes"

    def give_up(self, fault: BaseException) -> bool:
        """Go on without compiling, if layers are compiled; False if they were not.

        Args:
            fault: what a step died of.
        """
        if not self._calls:
            return False
        self.end()
        said = " ".join(str(fault).split())[:160]
        self.fact = f"no, as {type(fault).__name__}: {printable(said)}"
        return True

    def end(self) -> None:
        """Leave the layers as they were."""
        self._calls = []
        for layer in self._layers:
            layer._compiled_call_impl = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within this context the layers run as they are."""
        for layer in self._layers:
            layer._compiled_call_impl = None
        try:
            yield
        finally:
            for layer, call in zip(self._layers, self._calls, strict=False):
                layer._compiled_call_impl = call


def layers_of(lm: Backbone) -> list[Any]:
    """The decoder layers of a model; empty if no list of modules has as many as the model has layers."""
    wanted = lm.causal.config.get_text_config().num_hidden_layers
    for module in lm.causal.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == wanted:
            return list(module)
    return []
