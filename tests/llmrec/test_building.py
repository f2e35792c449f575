"""Precision, quantisation and the added pad token of the backbone a method asks for."""

from types import SimpleNamespace

import pytest
import torch
from test_backbone import families, folder_of

from bench.errors import ConfigError
from llmrec.a_llmrec.a_llmrec import ALLMRecConfig
from llmrec.generative._building import Order, build
from llmrec.generative._config import GenerativeConfig
from llmrec.lm import backbone
from llmrec.lm.backbone import Backbone, Lora
from llmrec.lm.scratch import tiny_tokenizer


def order(name, *, device="cuda", seed=0, adapters=True):
    return Order(name, device, seed, adapters)


@pytest.fixture
def asked(monkeypatch):
    """What ``backbone.load`` is asked for, on a machine without the device."""
    seen = {}

    def load(name, **options):
        seen.update(options)
        return SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0), quant=options["quant"])

    monkeypatch.setattr(backbone, "load", load)
    return seen


@pytest.mark.parametrize(
    ("config", "options", "dtype"),
    [
        ({}, {}, torch.bfloat16),
        ({"lora_r": 0}, {}, torch.float32),  # all weights are trained
        ({"lora_r": 0}, {"adapters": False}, torch.bfloat16),  # none is
        ({"lora_r": 0, "dtype": "bfloat16"}, {}, torch.bfloat16),
        ({"dtype": "float32"}, {}, torch.float32),
    ],
)
def test_weights_that_are_all_trained_are_not_in_half_precision(asked, config, options, dtype):
    build(GenerativeConfig(**config), order("some-model", **options), None)
    assert asked["dtype"] == dtype


def test_a_tiny_model_is_trained_in_float32_everywhere(asked):
    build(GenerativeConfig(dtype="bfloat16"), order("tiny"), None)
    assert asked["dtype"] == torch.float32 and asked["lora"] is None and asked["quant"] is None


def test_a_frozen_model_may_be_quantised_without_adapters(asked):
    config = ALLMRecConfig(llm_tuning="frozen", lora_r=0, quant=8)
    build(config, order("some-model"), None)
    assert asked["quant"] == 8 and asked["dtype"] is torch.bfloat16
    with pytest.raises(ConfigError, match="adapters only"):
        ALLMRecConfig().replace(lora_r=0, quant=8)


def test_weights_are_quantised_where_it_is_asked_for_and_nowhere_else(asked):
    build(GenerativeConfig(quant=8), order("some-model"), None)
    assert asked["quant"] == 8
    build(GenerativeConfig(), order("some-model"), None)
    assert asked["quant"] is None


def test_quantised_weights_are_never_merged(tmp_path):
    lm = backbone.load(folder_of(tmp_path, families()["llama untied"]), lora=Lora())
    eight = Backbone(lm.model, lm.tokenizer, name="eight", pretrained=True, quant=8)
    eight.merge()
    assert not any(module.merged for _, module in _adapters(lm))
    lm.merge()
    assert all(module.merged for _, module in _adapters(lm))


def test_weights_too_coarse_for_a_small_change_are_merged_on_demand_only(tmp_path):
    folder = folder_of(tmp_path, families()["llama untied"])
    half = backbone.load(folder, lora=Lora(), dtype=torch.bfloat16)
    half.merge()
    assert not any(module.merged for _, module in _adapters(half))
    half.merge(rounding=True)
    assert all(module.merged for _, module in _adapters(half))


@pytest.mark.parametrize(
    ("device", "able", "dtype"),
    [
        ("cpu", {}, torch.float32),
        ("cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("cpu", {"amx_bf16": True}, torch.bfloat16),
        ("cuda", {}, torch.bfloat16),
    ],
)
def test_precision_follows_what_the_device_multiplies(asked, monkeypatch, device, able, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    build(GenerativeConfig(), order("some-model", device=device), None)
    assert asked["dtype"] is dtype
    build(GenerativeConfig(lora_r=0), order("some-model", device=device), None)
    assert asked["dtype"] is torch.float32, "weights that are all trained"


def _adapters(lm):
    found = [(name, m) for name, m in lm.named_modules() if hasattr(m, "lora_A")]
    assert found
    return found


def test_the_added_pad_row_depends_on_the_seed_alone(tmp_path):
    config = families()["llama untied"]
    config.vocab_size = len(tiny_tokenizer(bos=True))
    folder = folder_of(tmp_path, config)

    def pad_row(seed, chance):
        torch.manual_seed(chance)
        lm = build(GenerativeConfig(pad_token=True), order(folder, device="cpu", seed=seed), None)
        assert torch.random.initial_seed() == chance, "the global generator is left alone"
        return lm.head.weight_VD[lm.tokenizer.pad_token_id]

    assert torch.equal(pad_row(1, 5), pad_row(1, 6))
    assert not torch.equal(pad_row(1, 5), pad_row(2, 5))
