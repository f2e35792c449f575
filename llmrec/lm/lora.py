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

    The default pair of targets means the query and value maps: where a model calls them otherwise
    (``c_attn``, ``query_key_value``), the maps that peft adapts in its architecture by default are taken.

    Args:
        model: a Hugging Face causal language model.
        lora: size and target modules of the adapters.
        seed: of the adapters' first weights.
        quantised: whether the frozen weights are 8 or 4 bits wide.

    Raises:
        ConfigError: the model has none of the target modules; names all that it has.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if quantised:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(_targets(model, lora.targets)),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as fault:
            raise ConfigError(
                f"lora_targets {', '.join(lora.targets)} are not in this {model.config.model_type} model; "
                f"set lora_targets to some of {', '.join(sorted(_maps(model)))}"
            ) from fault


def _targets(model: Any, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The asked targets; for the default pair, if the model has neither, those that peft knows."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    if asked != Lora.targets or _maps(model) & set(asked):
        return asked
    return tuple(KNOWN.get(model.config.model_type, asked))


def _maps(model: Any) -> set[str]:
    """Last names of the weighted modules inside the layers, the ones an adapter can stand beside."""
    kinds = ("Linear", "Conv1D")
    return {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if hasattr(module, "weight") and any(kind in type(module).__name__ for kind in kinds)
    } - {"lm_head"}
