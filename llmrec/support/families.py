"""The families of causal language models that the installed transformers has, and variants of some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# what the defaults of a family's configuration leave out or have otherwise than its models
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 16},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 16},
    "ministral": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "xlnet": {"d_head": 8},
    "xmod": {"default_language": "en_XX"},
}


@dataclass(frozen=True)
class Variant:
    """A family with other options than its default.

    Attributes:
        family: its model type.
        changes: options of the configuration.
    """

    family: str
    changes: Mapping[str, Any]


VARIANTS: Mapping[str, Variant] = {
    "falcon with alibi": Variant("falcon", {"alibi": True}),
    "falcon, new decoder": Variant("falcon", {"new_decoder_architecture": True, "num_kv_heads": 8}),
    "falcon_h1 with a multiplier": Variant("falcon_h1", {"embedding_multiplier": 3.0}),
    "granite with multipliers": Variant(
        "granite", {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5}
    ),
    "mpt without alibi": Variant("mpt", {"attn_config": {"alibi": False}}),
    "qwen2 with a sliding window": Variant(
        "qwen2", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}
    ),
}


def families() -> list[str]:
    """Model types, in transformers' order, and the names of the variants."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    return [*KNOWN, *VARIANTS]


def config_of(name: str) -> Any:
    """The default configuration of a family or variant, as a decoder where it can be both.

    Args:
        name: one of ``families()``.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    variant = VARIANTS.get(name, Variant(name, {}))
    kind = CONFIG_MAPPING[variant.family]
    known = kind().to_dict()
    made: dict[str, Any] = {"is_decoder": True} if "is_decoder" in known else {}
    return kind(**made | {**CHANGES.get(variant.family, {}), **variant.changes})
