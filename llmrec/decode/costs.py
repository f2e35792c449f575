"""What a decoding step costs on the kind of device at hand, where choices depend on it.

On a CPU a forward pass costs little beside its tokens, and reading a tensor costs nothing. On a GPU the
host starts some 25 kernels a layer whatever their size, and copying keys is dearer than padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone

CPU_PASS = 32  # tokens that cost as much as starting a forward pass
LAYER_SECONDS = 8e-4  # host time to start one layer: 25 kernels of 32 us, measured on an H100
TOKEN_RATE = 4e14  # operations a second of a prefill on an H100 in 16 bits, half its peak


@dataclass(frozen=True)
class Costs:
    """Costs on one device.

    Attributes:
        pass_tokens: tokens that cost as much as starting a forward pass.
        opening_tokens: tokens that a pass for the prompts' common beginning has to save.
        few: share of active users below which copying their keys is cheaper than padding the others.
        logits: logits held at once.
        reads: whether the host has to wait for a tensor that it reads.
    """

    pass_tokens: float
    opening_tokens: float
    few: float
    logits: int
    reads: bool

    @classmethod
    def of(cls, lm: Backbone) -> Costs:
        """The costs of a model on its device."""
        if lm.device.type == "cpu":
            return cls(CPU_PASS, opening_tokens=1, few=0.75, logits=2**24, reads=False)
        config = lm.causal.config.get_text_config()
        weights = [p for p in lm.causal.base_model.parameters() if p.ndim == 2]
        per_token = 2 * sum(map(Tensor.numel, weights)) / TOKEN_RATE
        tokens = LAYER_SECONDS * config.num_hidden_layers / per_token
        return cls(tokens, opening_tokens=tokens, few=0.0, logits=2**28, reads=True)
