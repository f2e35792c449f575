"""Low-rank adapters: a few trained weights beside a frozen language model (Hu et al., arXiv 2106.09685)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bench.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Options of the adapters; defaults as in the paper's recipe (3.4 million weights on Llama-3-8B).

    Attributes:
        r: rank.
        alpha: what the adapter adds is scaled by alpha / r.
        dropout: share of the adapter's inputs that are zeroed in training.
        targets: names of the modules that get an adapter.
    """

    r: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")


def adapted(model: Any, lora: Lora, *, seed: int, quantised: bool = False) -> Any:
    """The model with new adapters to train; everything else is frozen.

    Args:
        model: a Hugging Face causal language model.
        lora: size and target modules of the adapters.
        seed: of the adapters' first weights.
        quantised: whether the frozen weights are 8 or 4 bits wide.

    Raises:
        ConfigError: the model has none of the target modules.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if quantised:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as fault:
            leaves = sorted(
                {n.rpartition(".")[2] for n, m in model.named_modules() if hasattr(m, "weight")}
            )
            raise ConfigError(
                f"lora targets {', '.join(lora.targets)} are not in this model; it has "
                f"{', '.join(leaves)}"
            ) from fault
