"""Grounding of free generations, and the geometry under it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from decode_kit import TITLES, model, random_prompts, title_trie

from bench.errors import ConfigError, ContractError
from bench.types import Catalogue
from llmrec.decode.ground import Ground
from llmrec.decode.title_embeddings import (
    _read,
    choose_gamma,
    distances,
    embed_texts,
    nearest,
    popularity,
    scaled,
)
from llmrec.generative._building import kept_tokens
from llmrec.lm import smollm2
from llmrec.lm.backbone import Lora, adapted, embedded_tokenizer, small
from llmrec.lm.scratch import ScratchShape, tiny_tokenizer
from llmrec.trie import for_titles


@pytest.fixture(scope="module")
def lm():
    return model()


def test_points_are_the_last_states_whatever_the_batch(lm):
    texts = ["Dune", "Emma", "A Context, Provided", "The Reader of Books"]
    points = embed_texts(lm, texts, batch=2)
    for text, point_D in zip(texts, points, strict=True):
        with torch.no_grad():
            ids = torch.tensor([lm.tokenizer(text)["input_ids"]])
            wanted = lm.model.model(ids).last_hidden_state[0, -1]
        torch.testing.assert_close(point_D, wanted, atol=1e-5, rtol=1e-4)


def test_points_come_from_the_base_weights(lm):
    plain = embed_texts(lm, ["Dune"])
    tuned = model()
    tuned.model = adapted(tuned.model, Lora(), seed=0)
    with torch.no_grad():
        for name, parameter in tuned.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
    assert not torch.allclose(_state(tuned), plain), "the adapter changes the model"
    torch.testing.assert_close(embed_texts(tuned, ["Dune"]), plain)
    assert not torch.allclose(_state(tuned), plain), "and is back afterwards"


def _state(lm):
    ids = torch.tensor([lm.tokenizer("Dune")["input_ids"]])
    with torch.no_grad():
        return lm.body(embeds_BLD=lm.embed(ids), attention_mask=torch.ones_like(ids))[0][:, -1]


def test_a_model_that_gives_no_numbers_is_refused():
    lm = model()
    with torch.no_grad():
        lm.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ContractError, match="not finite"):
        embed_texts(lm, ["Dune"])


def test_distances_keep_their_digits_near_zero():
    torch.manual_seed(0)
    item_ID = torch.randn(50, 16) + 300
    query_QD = item_ID[:3] + torch.tensor([[0.5], [0.1], [1e-7]])
    wanted = torch.cdist(query_QD.double(), item_ID.double()).numpy()
    got = np.stack(list(distances(query_QD, item_ID)))
    close = wanted < 2.5
    assert close.sum() == 3 and wanted[~close].min() > 2.5
    np.testing.assert_allclose(got[0, 0], wanted[0, 0], rtol=1e-3)
    assert got[2, 2] == 0.0, "the same point, whatever the rounding"
    np.testing.assert_allclose(got[~close], wanted[~close], rtol=1e-3)


def test_equal_distances_go_to_the_smaller_item():
    item_ID = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0]])
    leaf_QK, score_QK = nearest(torch.zeros(1, 2), item_ID, 6)
    assert leaf_QK.tolist() == [[1, 2, 3, 0, -1, -1]]
    assert score_QK[0].tolist() == [-1, -1, -1, -3, -np.inf, -np.inf]


def test_weighting_by_hand():
    distance_I = np.array([2.0, 4.0, 3.0])
    assert scaled(distance_I).tolist() == [0, 1, 0.5]
    assert popularity([0.0, 1.0, 0.0], 2, 3).tolist() == [1, 0.25, 1]
    assert scaled(np.array([2.0, 2.0])).tolist() == [1, 1]
    with pytest.raises(ConfigError, match=r"3 weights in \[0, 1\]"):
        popularity([0.0, 2.0, 0.0], 1, 3)


def test_gamma_is_chosen_where_popularity_helps_and_left_alone_where_not():
    item_ID = torch.arange(12.0)[:, None]
    weight_I = np.zeros(12)
    weight_I[11] = 1.0
    query_QD = torch.zeros(4, 1)
    popular, near = np.full(4, 11), np.full(4, 1)
    # item 11 is scaled to 1 and has to fall below item 1 (1/11) for the second place: 2^gamma > 11
    assert choose_gamma(query_QD, item_ID, weight_I, popular) == 4
    assert choose_gamma(query_QD, item_ID, weight_I, near) == 0


@pytest.mark.parametrize("quote", ["strip", "keep"])
def test_a_generated_title_is_found_first(lm, quote, monkeypatch):
    trie = title_trie(lm)
    said = [3, 1, 4]

    def speak(lm, prompts, config, allowed=None):
        rows = [trie.answer[leaf].tolist() for leaf in said]
        width = max(map(len, rows))
        return np.array([row + [trie.eos] * (width - len(row)) for row in rows]), np.zeros(3)

    monkeypatch.setattr("llmrec.decode.ground.run", speak)
    prompts = sorted(random_prompts(3), key=len)
    found = Ground({"quote": quote, "max_new_tokens": 4})(lm, prompts, trie, 5)
    assert found.leaf_QK[:, 0].tolist() == said
    assert (np.diff(found.score_QK, axis=1) <= 0).all() and (found.score_QK[:, 0] == 0).all()
    assert found.facts["distinct_titles_said"] == 3 and not found.failed_Q.any()


def test_nothing_generated_is_a_miss(lm, monkeypatch):
    trie = title_trie(lm)
    quotes = lm.tokenizer('""', add_special_tokens=False)["input_ids"]

    def silence(lm, prompts, config, allowed=None):
        return np.array([[*quotes, trie.eos][:3]] * len(prompts)), np.zeros(len(prompts))

    monkeypatch.setattr("llmrec.decode.ground.run", silence)
    found = Ground()(lm, random_prompts(2), trie, 5)
    assert found.failed_Q.all() and (found.leaf_QK == -1).all()
    assert found.facts["empty_generations"] == 2


def test_titles_are_embedded_once_for_a_frozen_base(monkeypatch):
    lm = model()
    lm.model = adapted(lm.model, Lora(), seed=0)
    trie, prompts, seen = title_trie(lm), random_prompts(2), []
    real = embed_texts

    def counting(lm, texts, **options):
        seen.append(len(texts))
        return real(lm, texts, **options)

    monkeypatch.setattr("llmrec.decode.ground.embed_texts", counting)
    first, again = (Ground({"max_new_tokens": 3})(lm, prompts, trie, 5) for _ in "ab")
    assert seen.count(trie.n_leaves) == 1
    np.testing.assert_array_equal(first.leaf_QK, again.leaf_QK)
    assert first.facts["embedded_by"] == "base weights"


@pytest.mark.parametrize("beams", [1, 4])
def test_real_generation_ranks_every_title_once(lm, beams):
    lm.model.generation_config.do_sample = True
    lm.model.generation_config.temperature = 5.0
    try:
        trie, prompts = title_trie(lm), random_prompts(5)
        decoder = Ground({"beams": beams, "max_new_tokens": 6})
        first, again = (decoder(lm, prompts, trie, 10) for _ in "ab")
    finally:
        lm.model.generation_config.do_sample = False
        lm.model.generation_config.temperature = None
    np.testing.assert_array_equal(first.leaf_QK, again.leaf_QK)
    assert trie.n_leaves == len(set(TITLES[1:]))
    for row in first.leaf_QK[~first.failed_Q]:
        assert sorted(row) == sorted(set(row.tolist())) and row.min() >= 0


def test_weighting_without_weights_is_refused(lm):
    with pytest.raises(ConfigError, match="gamma is 2 but no popularity"):
        Ground({"gamma": 2.0, "max_new_tokens": 2})(lm, random_prompts(1), title_trie(lm), 3)


def test_choosing_sets_what_decoding_uses(lm):
    trie, prompts = title_trie(lm), random_prompts(4)
    decoder = Ground({"beams": 1, "max_new_tokens": 5})
    plain = decoder(lm, prompts, trie, trie.n_leaves)
    assert not plain.failed_Q.any()
    last = plain.leaf_QK[:, -1]
    weight_I = np.zeros(trie.n_leaves)
    weight_I[last] = 1.0
    gamma = decoder.choose(lm, prompts, trie, weight_I=weight_I, target_Q=last)
    assert gamma > 0 and decoder.config.gamma == gamma
    weighted = decoder(lm, prompts, trie, 5)
    np.testing.assert_array_equal(weighted.leaf_QK[:, 0], plain.leaf_QK[:, 0])
    assert (weighted.leaf_QK == last[:, None]).any()


# real titles whose bare words a compact vocabulary lacks: quoted, their ends merge with the quotes
AWKWARD = (
    "",
    "Who Killed 'Tom Jones'?",
    "Books />",
    "Kite (Age 5+)",
    "Twelve Books",
    "Café «Noir»",
)


@pytest.fixture(scope="module")
def compact():
    catalogue = Catalogue(AWKWARD, "book")
    tokenizer = embedded_tokenizer(kept_tokens(catalogue))
    return small("scratch", tokenizer, shape=ScratchShape(), seed=0, device="cpu").eval()


@pytest.mark.skipif(not smollm2.is_here(), reason="needs the embedded tokenizer")
@pytest.mark.parametrize("quote", ["strip", "keep"])
def test_titles_that_a_compact_vocabulary_has_in_quotes_only(compact, quote, monkeypatch):
    for title in AWKWARD[1:4]:
        with pytest.raises(ValueError, match="compact vocabulary"):
            compact.tokenizer(title)
    trie = for_titles(AWKWARD, compact.tokenizer)

    def speak(lm, prompts, config, allowed=None):
        rows = [answer.tolist() for answer in trie.answer]
        width = max(map(len, rows))
        return np.array([row + [trie.eos] * (width - len(row)) for row in rows]), None

    monkeypatch.setattr("llmrec.decode.ground.run", speak)
    prompts = sorted(random_prompts(trie.n_leaves), key=len)
    prompts = [replace(prompt, ids=prompt.ids % 50) for prompt in prompts]
    found = Ground({"quote": quote})(compact, prompts, trie, 3)
    assert sorted(found.leaf_QK[:, 0]) == list(range(trie.n_leaves))
    assert (found.score_QK[:, 0] == 0).all() and (found.score_QK[:, 1] < 0).all()


@pytest.mark.skipif(not smollm2.is_here(), reason="needs the embedded tokenizer")
def test_a_bare_title_is_spelt_without_its_quotes_and_only_where_it_has_to_be(compact):
    for title in AWKWARD[1:4]:
        assert compact.tokenizer.decode(_read(compact, title)) == title
    whole = compact.tokenizer("Twelve Books")["input_ids"]
    assert _read(compact, "Twelve Books") == whole and len(whole) < 12


def test_an_empty_text_is_the_end_token_alone_whatever_begins_a_text():
    lm = model()
    lm.tokenizer = tiny_tokenizer(bos=True)
    end = lm.tokenizer.eos_token_id
    with torch.no_grad():
        wanted = lm.model.model(torch.tensor([[end]])).last_hidden_state[0, -1]
    torch.testing.assert_close(embed_texts(lm, [""])[0], wanted, atol=1e-5, rtol=1e-4)
