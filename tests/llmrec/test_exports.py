"""A tuned model that leaves the suite is, in peft and in transformers, the model that was tuned."""

import copy

import pytest
import torch

from bench.errors import ConfigError
from llmrec.lm import backbone
from llmrec.lm.backbone import Lora
from llmrec.lm.exports import export
from llmrec.lm.scratch import tiny_tokenizer


@pytest.fixture
def tuned(tmp_path):
    """A small Llama with adapters that say something, and the folder it came from."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    base = tmp_path / "base"
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": None}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=512, **shape, **heads)).save_pretrained(
        base
    )
    tiny_tokenizer(bos=True).save_pretrained(base)
    lm = backbone.load(str(base), lora=Lora(r=2, dropout=0.0), seed=0).eval()
    with torch.no_grad():
        for name, weight in lm.trainable().items():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    return lm, base


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(20, 40)[None]).logits


def test_adapters_open_in_peft_on_their_base(tuned, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    lm, base = tuned
    (tmp_path / "out").mkdir()
    export(lm, tmp_path / "out", form="peft")
    plain = AutoModelForCausalLM.from_pretrained(base)
    opened = PeftModel.from_pretrained(copy.deepcopy(plain), tmp_path / "out").eval()
    torch.testing.assert_close(logits(opened), logits(lm.model))
    assert (logits(opened) - logits(plain)).abs().max() > 1e-3


def test_the_whole_model_opens_in_transformers_and_the_tuned_one_stays(tuned, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lm, _ = tuned
    before = logits(lm.model)
    (tmp_path / "out").mkdir()
    export(lm, tmp_path / "out", form="hf")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(logits(opened), before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(lm.model), before)
    text = "The user has read"
    assert AutoTokenizer.from_pretrained(tmp_path / "out")(text) == lm.tokenizer(text)


def test_what_no_folder_can_say_is_refused(tuned, tmp_path):
    lm, base = tuned
    with pytest.raises(ConfigError, match="allowed: peft, hf"):
        export(lm, tmp_path, form="gguf")
    with pytest.raises(ConfigError, match="no adapters; use --hf"):
        export(backbone.load(str(base)), tmp_path, form="peft")
    with pytest.raises(ConfigError, match="random weights"):
        export(backbone.load("tiny"), tmp_path, form="hf")
    lm.quant = 8
    with pytest.raises(ConfigError, match="weights of 8 bits"):
        export(lm, tmp_path, form="hf")
