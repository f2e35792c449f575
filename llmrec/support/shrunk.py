"""The architecture of a language model with small dimensions and random weights, in float32.

Whether a layout gives right numbers depends on the code of a model and on its options, not on its weights.
So that asking costs a fraction of a second also for a model of 70 billion weights, its configuration is
copied, every kind of layer is kept once, and widths are cut.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from bench.errors import ConfigError
from llmrec.lm.backbone import Backbone
from llmrec.lm.chance import seeded

VOCABULARY = 160
WINDOW = 6  # tokens a sliding layer sees, where texts can be longer than its own window
DEPTH = 2  # layers at least
HEADS = 4
# what configurations call one thing, and the size it gets
SIZES: Mapping[int, str] = {
    VOCABULARY: "vocab_size vocab_size_per_layer_input unpadded_vocab_size",
    32: "hidden_size n_embd d_model embedding_size embed_dim embedding_dim word_embed_proj_dim dim_model "
    "output_embedding_size attention_hidden_size lru_width cross_attention_hidden_size emb_dim "
    "hidden_size_per_layer ple_embed_dim",
    48: "intermediate_size intermediate_size_mlp n_inner ffn_dim ffn_hidden_size encoder_ffn_dim "
    "decoder_ffn_dim dim_ff dff moe_intermediate_size shared_expert_intermediate_size "
    "shared_experts_intermediate_size shared_intermediate_size "
    "moe_shared_expert_intermediate_size expert_ffn_hidden_size "
    "prefix_dense_intermediate_size dense_intermediate_size feed_forward_size",
    HEADS: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads num_query_groups "
    "num_experts num_local_experts n_routed_experts moe_num_experts linear_num_value_heads "
    "linear_num_heads index_n_heads indexer_n_heads n_mamba_heads laurel_rank router_hidden_size "
    "num_kv_heads",
    2: "num_experts_per_tok num_experts_per_token moe_topk top_k_experts moe_k moe_top_k "
    "linear_num_key_heads encoder_layers decoder_layers num_encoder_layers num_decoder_layers",
    1: "n_group topk_group num_expert_group mamba_n_groups mamba_ngroups n_groups num_nextn_predict_layers",
    8: "head_dim attention_head_dim swa_head_dim v_head_dim swa_v_head_dim qk_rope_head_dim qk_nope_head_dim "
    "linear_key_head_dim linear_value_head_dim linear_head_dim mamba_d_state state_size "
    "mamba_n_heads mamba_num_heads mamba_d_head mamba_head_dim hidden_size_per_layer_input rotary_dim "
    "ssm_state_size kv_channels attention_head_size o_lora_rank mamba_dt_rank time_step_rank chunk_size "
    "mamba_chunk_size global_head_dim adapter_rank dim_head",
    16: "q_lora_rank kv_lora_rank qk_head_dim index_head_dim indexer_head_dim",
    64: "mamba_d_ssm",
}
SIZE_OF = {name: size for size, names in SIZES.items() for name in names.split()}
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks")
PAIRED = ("num_key_value_heads", "swa_num_key_value_heads", "num_key_value_groups")
WINDOWS = (
    "sliding_window",
    "window_size",
    "attention_window_size",
    "attention_chunk_size",
    "sliding_window_size",
)
CHANCE = (
    "dropout",
    "_pdrop",
    "drop_rate",
    "layerdrop",
    "jitter_noise",
)  # training draws with these
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id")
END = 1
# what the rules above do not know of an architecture
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "bamba": {"attn_layer_indices": [1]},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "zamba2": {"mamba_headdim": 16, "attention_head_dim": 16, "attention_hidden_size": 64},
    "t5": {"num_layers": 2},  # as many as in its decoder
    "xlstm": {"chunk_size": 16},
    "xlnet": {"d_head": 8},
}


def small_model(
    config: Any,
    *,
    crossed: int | None = None,
    seed: int = 0,
    auto: str = Backbone.auto,
) -> Any:
    """A language model like the one with this configuration, in evaluation mode on the CPU.

    Leaves torch's global generator as it is.

    Args:
        config: of any model that ``auto`` can make.
        crossed: tokens of the longest text; windows of sliding layers that are at least as long stay so, and
            shorter ones are made shorter than the probe's texts. None makes all of them short.
        seed: of the weights.
        auto: transformers' class that makes it; by default of causal language models.

    Raises:
        ConfigError: no small model can be made of this configuration.
    """
    import transformers

    kernel = getattr(config, "_attn_implementation", None)
    with seeded(seed):
        try:
            small = shrunk(config, crossed)
            model = getattr(transformers, auto).from_config(
                small, dtype=torch.float32, attn_implementation=kernel
            )
        except Exception as fault:  # whatever the architecture's own code says
            raise ConfigError(
                f"no small {config.model_type} model can be made to try its layouts on "
                f"({type(fault).__name__}: {str(fault).splitlines()[0][:120]})"
            ) from fault
        _spread(model)
    return model.float().eval()


def shrunk(config: Any, crossed: int | None = None) -> Any:
    """A copy of a configuration with few layers, small widths and short windows; see ``small_model``.

    Args:
        config: a configuration of transformers.
        crossed: tokens of the longest text, None for longer than every window.
    """
    whole = config.to_dict()
    data = copy.deepcopy(whole)
    for name in getattr(config, "sub_configs", {}):
        part = getattr(config, name, None)
        if part is not None and hasattr(part, "to_dict"):
            data[name] = shrunk(part, crossed).to_dict()
    for name in ("quantization_config", "dtype", "torch_dtype", "auto_map", "_name_or_path"):
        data.pop(name, None)
    _cut_depth(data)
    data = {name: _sized(name, value, crossed) for name, value in data.items()}
    for name in PAIRED:
        if isinstance(old := whole.get(name), int):
            same = old == whole.get(name.replace("key_value", "attention"))
            data[name] = HEADS if same else min(old, 2)
    data |= OVERRIDES.get(config.model_type, {})
    return type(config).from_dict(data)


def _sized(name: str, value: Any, crossed: int | None) -> Any:
    """The value that an option has in a small model."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list) and name in SIZE_OF:  # one size a layer
        return [_sized(name, one, crossed) for one in value]
    if name in SIZE_OF and isinstance(value, int):
        return SIZE_OF[name]
    if name in WINDOWS and isinstance(value, int) and (crossed is None or value < crossed):
        return WINDOW
    if isinstance(value, float) and any(word in name for word in CHANCE):
        return 0.0
    return END if name in SPECIAL else value


def _cut_depth(data: dict[str, Any]) -> None:
    """Keep one layer of each kind, and ``DEPTH`` layers at least."""
    for depth in DEPTHS:
        if not isinstance(old := data.get(depth), int):
            continue
        lists = {k: v for k, v in data.items() if isinstance(v, list) and len(v) == old}
        kinds = [repr([values[layer] for values in lists.values()]) for layer in range(old)]
        kept = sorted({kinds.index(kind) for kind in kinds})[:6]
        kept = sorted({*kept, *range(min(old, DEPTH))}) if len(kept) < DEPTH else kept
        if data.get("num_kv_shared_layers"):  # the later half reads the keys of the earlier one
            data["num_kv_shared_layers"], kept = len(kept), kept * 2
        data[depth] = len(kept)
        if own := data.get("per_layer_config"):
            own = {int(layer): options for layer, options in own.items()}
            data["per_layer_config"] = {
                place: {k: 2 * SIZE_OF.get(k, v) for k, v in own[layer].items()}
                for place, layer in enumerate(kept)
                if layer in own
            }
        for name, values in lists.items():
            data[name] = [values[layer] for layer in kept]


def _spread(model: Any) -> None:
    """Weights so large that every part of the model moves what comes out."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.normal_(0.0, weight[0].numel() ** -0.5)
        model.get_input_embeddings().weight.normal_(0.0, 1.0)
