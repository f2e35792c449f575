"""LC-Rec: what is trained of a pretrained model's tables, how new rows begin, and prompts with codes."""

import numpy as np
import pytest
import sid_kit
import torch
from test_backbone import families, folder_of

from bench.cell import Run
from bench.method import configure, keep
from llmrec.generative.lc_rec import LCRec
from llmrec.lm import backbone
from llmrec.lm.backbone import Lora
from llmrec.prompt import TAIL, head_text
from llmrec.sid.codes import Codes, hash_of
from llmrec.sid.extended_backbone import ExtendedBackbone
from llmrec.trie import text_tokens

CODES = Codes(np.array([[-1, -1], [0, 1], [2, 1], [0, 0]], np.int32), (3, 2), hash_of(["", *"abc"]))
TITLES = ["", "a kite", "a red ball", "drums"]


def tables(lm):
    layers = lm.causal.get_input_embeddings(), lm.causal.get_output_embeddings()
    return [layer.weight.detach().clone() for layer in layers]


def test_training_leaves_the_models_own_rows_bit_for_bit(tmp_path):
    """A whole training with adapters on a model with tied tables, and the way back from disk."""
    train = sid_kit.windows()
    made, _ = sid_kit.stage(tmp_path, train, sid_kit.vectors())
    keep(made, tmp_path / "sid")
    (tmp_path / "lm").mkdir()
    folder = folder_of(tmp_path / "lm", families()["qwen tied"])
    own_VD = backbone.load(folder).causal.get_input_embeddings().weight.detach()
    given = {"epochs": 1, "batch": 8, "lr": 1e-2, "valid_rows": 0, "dtype": "float32"}
    values = LCRec.complete(configure(LCRec, given), loss="lml", decoder="beam")
    method = LCRec(values, loss="lml", decoder="beam", backbone=folder)
    run = Run(seed=1, device="cpu", folder=tmp_path, inputs={"sid": tmp_path / "sid"})
    method.fit(train, sid_kit.exam(train), run)
    start = method.dress(method._bare("cpu", None), train, run)
    for now_VD, was_VD in zip(tables(method.lm), tables(start), strict=True):
        assert torch.equal(now_VD[:512], own_VD)
        assert (now_VD[512:] != was_VD[512:]).any(1).float().mean() > 0.9
    lora = sum(p.numel() for name, p in method.lm.trainable().items() if "lora" in name)
    assert run.facts["parameters_trained"] == lora + method.codes.n_tokens * 32
    assert run.facts["avt_titles"] > 1
    sid_kit.kept_and_read(method, tmp_path / "kept", sid_kit.exam(train).queries)


def test_a_head_of_its_own_is_trained_in_the_rows_of_codes_alone(tmp_path):
    lm = backbone.load(folder_of(tmp_path, families()["llama untied"]), lora=Lora(), seed=0)
    extended = ExtendedBackbone(lm, CODES, seed=0)
    ids = torch.tensor([[5, 512, 514]])
    hidden, _ = extended.body(embeds_BLD=extended.embed(ids), attention_mask=torch.ones_like(ids))
    extended.head.logits(hidden[0]).logsumexp(1).sum().backward()
    for layer in (extended.causal.get_input_embeddings(), extended.causal.get_output_embeddings()):
        assert not layer.weight.grad[:512].any() and layer.weight.grad[512:].any()
    assert {"codes_0", "codes_1"} <= extended.learnt().keys()


@pytest.mark.parametrize("family", ["llama untied", "qwen tied"])
def test_a_code_begins_as_the_mean_of_its_title_tokens(tmp_path, family):
    lm = backbone.load(folder_of(tmp_path, families()[family]))
    extended = ExtendedBackbone(lm, CODES, seed=0)
    random = tables(extended)
    extended.start_from_titles(CODES, TITLES, [1, 2])
    ids = text_tokens(lm.tokenizer, TITLES)
    for row_VD, before_VD in zip(tables(extended), random, strict=True):
        length = row_VD[:512].norm(dim=1).mean()
        mean_D = row_VD[ids[1] + ids[2]].mean(0)  # code 1 of level 2 belongs to both items
        torch.testing.assert_close(row_VD[512 + 3 + 1], mean_D * length / mean_D.norm())
        assert torch.equal(row_VD[512 + 3], before_VD[512 + 3])  # of item 3, which does not count
        torch.testing.assert_close(row_VD[512:].norm(dim=1), length.expand(5))


def test_a_prompt_has_codes_for_titles(tmp_path):
    method = LCRec(configure(LCRec, {}), loss="lml", decoder="beam", backbone="tiny")
    names = ("", *TITLES[1:])
    method.codes = Codes(CODES.code_NL, CODES.sizes, hash_of(names))
    method.lm = ExtendedBackbone(method._bare("cpu", None), method.codes, seed=0)
    catalogue = sid_kit.Catalogue(names, "book")
    method._index(catalogue)
    prompt = method.prompter.prompt([1, 3])
    said = "".join(head_text("book")) + "<a0><b1>,<a0><b0>" + TAIL
    assert method.lm.tokenizer.decode(prompt.ids.tolist()) == said
    first, end = method.lm.first, method.lm.tokenizer.eos_token_id
    assert method.trie.answer[0].tolist() == [first, first + 3 + 1, end]
