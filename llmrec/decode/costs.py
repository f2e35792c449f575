"""What a decoding step costs on the kind of device at hand, where choices depend on it.

On a CPU a forward pass costs little beside its tokens, and reading a tensor costs nothing. On a GPU the
host starts some 25 kernels a layer whatever their size, and copying keys is dearer than padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llmrec.lm.device_costs import costs_of

if TYPE_CHECKING:
    from llmrec.lm.backbone import Backbone
    from llmrec.prompt import Prompt

SHARE = 0.7  # of the free memory that a batch may fill; where that is too much, it is halved
TREE_TOKENS = 64  # of a user, as ``Tree`` makes room for


@dataclass(frozen=True)
class Costs:
    """Costs on one device.

    Attributes:
        pass_tokens: tokens that cost as much as starting a forward pass.
        opening_tokens: tokens that a pass for the prompts' common beginning has to save.
        few: share of active users below which copying their keys is cheaper than padding the others.
        logits: logits held at once.
        reads: whether the host has to wait for a tensor that it reads.
        padding: share of padding that costs less than a forward pass.
    """

    pass_tokens: float
    opening_tokens: float
    few: float
    logits: int
    reads: bool
    padding: float

    @classmethod
    def of(cls, lm: Backbone) -> Costs:
        """The costs of a model on its device."""
        table = costs_of(lm.device)
        rest: dict[str, Any] = {
            "few": table.few,
            "logits": table.logits_in_search,
            "reads": table.reads,
            "padding": table.padding,
        }
        if table.pass_tokens:
            return cls(table.pass_tokens, opening_tokens=table.opening_tokens, **rest)
        config = lm.causal.config.get_text_config()
        weights = [p for p in lm.causal.base_model.parameters() if p.ndim == 2]
        per_token = 2 * sum(map(Tensor.numel, weights)) / table.token_rate
        tokens = table.layer_seconds * config.num_hidden_layers / per_token
        return cls(tokens, opening_tokens=tokens, **rest)


def users_at_once(lm: Backbone, prompts: Sequence[Prompt], users: int) -> int:
    """Users that are decoded together.

    Args:
        lm: the model.
        prompts: of all users.
        users: how many on a CPU; a GPU takes as many as its free memory holds.
    """
    if lm.device.type != "cuda" or not prompts:
        return users
    free = torch.cuda.mem_get_info(lm.device)[0]
    free += torch.cuda.memory_reserved(lm.device) - torch.cuda.memory_allocated(lm.device)
    tokens = TREE_TOKENS + max(map(len, prompts))
    return max(1, int(SHARE * free / (tokens * bytes_per_token(lm))))


def bytes_per_token(lm: Backbone) -> int:
    """Memory of one prompt token while prompts are computed: its keys and values twice, and activations."""
    config = lm.causal.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kept = 2 * config.num_hidden_layers * heads * head_dim
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    # a layer's input, output and normalised input, and gate, up and their product
    active = 8 * config.hidden_size + 4 * inner
    return int((2 * kept + active) * max(2, lm.dtype.itemsize))
