"""Our head against the logits that the models themselves compute."""

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model

from bench.errors import ConfigError
from llmrec.lm.head import Head
from llmrec.losses.lml import lml

SIZE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
MODELS = {
    "LlamaConfig": {},
    "Qwen2Config": {"tie_word_embeddings": True},
    "Qwen3Config": {"head_dim": 8},
    "Gemma2Config": {"head_dim": 8, "final_logit_softcapping": 0.2},
    "Gemma3TextConfig": {"head_dim": 8, "final_logit_softcapping": 0.3},
    "CohereConfig": {"logit_scale": 0.0625},
    "GraniteConfig": {"logits_scaling": 8.0},
    "PhiConfig": {},  # its head has a bias
}


def tiny(name: str, **options):
    torch.manual_seed(0)
    config = getattr(hf, name)(**SIZE, **MODELS.get(name, {}), **options)
    model = hf.AutoModelForCausalLM.from_config(config).eval()
    bias = model.get_output_embeddings().bias
    if bias is not None:
        torch.nn.init.normal_(bias)
    return model


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_logits_are_those_of_the_model(name):
    model = tiny(name)
    ids = torch.arange(1, 9)[None]
    hidden_LD = model.base_model(input_ids=ids).last_hidden_state[0]
    head = Head.of(model)
    logits = model(input_ids=ids).logits[0]
    torch.testing.assert_close(head.logits(hidden_LD), logits, rtol=1e-5, atol=1e-6)
    some = torch.tensor([3, 4, 40])
    torch.testing.assert_close(
        head.rows(some).logits(hidden_LD), logits[:, some], rtol=1e-5, atol=1e-6
    )
    assert head.vocabulary == SIZE["vocab_size"]


def test_models_with_a_special_head_are_read_as_such():
    assert Head.of(tiny("CohereConfig")).scale == 0.0625
    assert Head.of(tiny("GraniteConfig")).scale == 1 / 8
    assert Head.of(tiny("Gemma2Config")).softcap == 0.2
    assert Head.of(tiny("PhiConfig")).bias_V is not None
    plain = Head.of(tiny("LlamaConfig"))
    assert (plain.scale, plain.softcap, plain.bias_V) == (1.0, None, None)


def test_half_precision_gives_full_precision_logits():
    model = tiny("LlamaConfig").to(torch.bfloat16)
    head = Head.of(model)
    hidden = torch.randn(5, 16, dtype=torch.bfloat16)
    exact = hidden.float() @ head.weight_VD.float().T
    assert head.logits(hidden).dtype == torch.float32
    torch.testing.assert_close(head.logits(hidden), exact)  # and not rounded to 16 bits on the way
    some = torch.arange(0, 50, 3)
    torch.testing.assert_close(head.rows(some).logits(hidden), exact[:, some])


def test_a_half_precision_head_gives_the_same_logits_with_and_without_gradients(monkeypatch):
    """The kernel that a GPU takes, in the CPU's arithmetic."""
    monkeypatch.setattr("llmrec.lm.head.mixes", lambda weight: True)
    monkeypatch.setattr(
        "llmrec.lm.head.mixed", lambda hidden, weight: hidden.float() @ weight.float().T
    )
    torch.manual_seed(0)
    hidden = torch.randn(6, 16, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.bfloat16, requires_grad=True)
    bias = torch.randn(50, dtype=torch.bfloat16, requires_grad=True)
    head, token = Head(weight, bias), torch.arange(6)
    policy = lml(hidden, head, token)
    with torch.no_grad():
        reference = lml(hidden, head, token)
    assert head.trainable and policy.requires_grad
    assert torch.equal(policy, reference), "log-ratios of an untrained policy are 0"
    gradients = torch.autograd.grad(policy.sum(), (hidden, weight, bias))
    full = [x.detach().float().requires_grad_() for x in (hidden, weight, bias)]
    wanted = torch.autograd.grad(lml(full[0], Head(*full[1:]), token).sum(), full)
    for got, true in zip(gradients, wanted, strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.float(), true, rtol=2e-2, atol=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_gradients_do_not_change_the_logits():
    model = tiny("LlamaConfig").to("cuda", torch.bfloat16)
    head, hidden = Head.of(model), torch.randn(8, 16, dtype=torch.bfloat16, device="cuda")
    learning = head.logits(hidden)
    with torch.no_grad():
        assert torch.equal(learning, head.logits(hidden))
    assert learning.requires_grad


def test_autocast_does_not_lower_the_precision():
    head, hidden = Head.of(tiny("LlamaConfig")), torch.randn(5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        inside = head.logits(hidden)
    torch.testing.assert_close(inside, head.logits(hidden), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"scale": 0.5}, {"softcap": 1.5, "scale": 2.0}])
def test_pull_is_the_gradient_of_logits(options):
    torch.manual_seed(0)
    weight, hidden = torch.randn(9, 4).double(), torch.randn(3, 4).double().requires_grad_()
    head = Head(weight, None, **options)
    upstream = torch.randn(3, 9).double()
    logits = head.logits(hidden)
    (wanted,) = torch.autograd.grad((logits * upstream).sum(), hidden)
    torch.testing.assert_close(head.pull(upstream.clone(), logits.detach()), wanted)


def test_lml_is_the_loss_of_the_model_itself():
    model = tiny("LlamaConfig")
    ids = torch.arange(1, 12)[None]
    hidden_LD = model.base_model(input_ids=ids).last_hidden_state[0]
    mine = lml(hidden_LD[:-1], Head.of(model), ids[0, 1:]).mean()
    torch.testing.assert_close(mine, model(input_ids=ids, labels=ids).loss, rtol=1e-5, atol=0)


def test_frozen_and_learning_heads():
    model = tiny("LlamaConfig")
    assert Head.of(model).trainable
    with torch.no_grad():
        assert not Head.of(model).trainable
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    assert not Head.of(adapted).trainable


def test_peft_copies_of_the_head_are_used():
    model = tiny("LlamaConfig", tie_word_embeddings=False)
    options = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
    adapted = get_peft_model(model, options)
    head = Head.of(adapted)
    assert head.trainable
    trained = {id(p) for p in adapted.parameters() if p.requires_grad}
    assert id(head.weight_VD) in trained


def test_adapter_on_the_head_is_refused():
    model = get_peft_model(
        tiny("LlamaConfig", tie_word_embeddings=False), LoraConfig(target_modules=["lm_head"])
    )
    with pytest.raises(ConfigError, match="LoRA adapter"):
        Head.of(model)


def test_quantised_head_is_refused():
    model = tiny("LlamaConfig", tie_word_embeddings=False)
    layer = model.get_output_embeddings()
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ConfigError, match="quantised"):
        Head.of(model)
