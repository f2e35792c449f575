"""The decode doctor: what it lets through and what it voids."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from decode_kit import model, random_prompts, random_trie, title_trie

from bench.errors import ContractError
from bench.registry import decoders
from llmrec.decode import checks
from llmrec.decode.base import Decoder
from llmrec.decode.beam import Beam
from llmrec.decode.exact import Exact
from llmrec.decode.generate import Generate
from llmrec.decode.ground import Ground


@pytest.fixture
def sampler():
    """A model that ships Llama-3's sampling flags."""
    lm = model(gain=2.0)
    config = lm.model.generation_config
    config.do_sample, config.temperature, config.top_p, config.top_k = True, 0.6, 0.9, 20
    return lm


def failed(found):
    return {check.name for check in found if not check.ok}


def test_all_decoders_are_registered():
    assert {"beam", "exact", "ground", "generate"} <= set(decoders.names())
    assert decoders.get("exact") is Exact


@pytest.mark.parametrize(
    "decoder", [Beam(), Exact(), Generate(), Ground({"max_new_tokens": 4})], ids=lambda d: d.name
)
def test_our_decoders_pass_on_a_model_that_samples(sampler, decoder):
    trie, prompts = title_trie(sampler), random_prompts(4)
    found = checks.examine(decoder, sampler, prompts, trie, 5)
    assert checks.require(found) == found
    assert len({check.name for check in found}) == len(found) >= 7
    assert sampler.model.generation_config.do_sample, "the model keeps its own config"


def test_the_released_config_is_caught_on_a_model_that_samples(sampler):
    trie, prompts = random_trie(sampler, 1, n_items=150), random_prompts(8)
    leaky = Generate({"inherit_sampling": True})
    found = checks.examine(leaky, sampler, prompts, trie, 5)
    assert {"no sampling", "two seeds"} <= failed(found)
    with pytest.raises(ContractError, match=r"voids this cell.*do_sample=True, temperature=0.6"):
        checks.require(found)
    assert checks.require(found, waived=checks.waived_by(leaky)) == found
    sampler.model.generation_config.do_sample = False
    assert "no sampling" not in failed(checks.sampling(leaky, sampler, trie))


def test_warpers_of_the_model_are_caught_without_sampling(sampler):
    sampler.model.generation_config.do_sample = False
    sampler.model.generation_config.repetition_penalty = 1.3
    trie = title_trie(sampler)
    leaky = Generate({"inherit_sampling": True})
    assert failed(checks.sampling(leaky, sampler, trie)) == {"no warpers"}
    assert failed(checks.sampling(Generate(), sampler, trie)) == set()


class Careless(Decoder):
    """Draws lists by chance and repeats itself."""

    def __call__(self, lm, prompts, trie, k, *, progress=None):
        found = Exact()(lm, prompts, trie, k)
        leaf_QK = torch.randint(trie.n_leaves, found.leaf_QK.shape).numpy().astype(np.int32)
        leaf_QK[:, 1] = leaf_QK[:, 0]
        return dataclasses.replace(found, leaf_QK=leaf_QK)


def test_repeats_and_chance_are_caught(sampler):
    found = checks.examine(Careless(), sampler, random_prompts(6), title_trie(sampler), 5)
    assert {"distinct items", "two seeds", "length rule"} <= failed(found)


def test_short_lists_are_caught_unless_nothing_more_exists(sampler):
    trie = title_trie(sampler)
    whole = Exact()(sampler, random_prompts(2), trie, 20)
    assert checks.distinct(whole, trie, 20).ok, "20 asked, every answer of the catalogue given"
    leaf_QK = whole.leaf_QK.copy()
    leaf_QK[0, trie.n_leaves - 1] = -1
    assert not checks.distinct(dataclasses.replace(whole, leaf_QK=leaf_QK), trie, 20).ok


def test_truncations_are_counted(sampler):
    trie = title_trie(sampler)
    prompts = [dataclasses.replace(p, dropped=n) for n, p in enumerate(random_prompts(3))]
    decoder = Generate({"max_new_tokens": 2})
    found = checks.truncation(prompts, decoder(sampler, prompts[:1], trie, 1), trie)
    longer = int((trie.answer.lengths > 2).sum())
    assert found.sentence.startswith("2 of 3 histories lost 3 of their oldest items")
    assert f"{longer} of {trie.n_leaves} titles" in found.sentence and longer > 0


def test_a_head_that_does_not_add_up_is_caught(sampler, monkeypatch):
    trie, prompts = title_trie(sampler), random_prompts(1)
    assert checks.total_probability(sampler, prompts, trie).ok
    real = checks.score_all
    monkeypatch.setattr(checks, "score_all", lambda *a: real(*a) + 0.01)
    assert not checks.total_probability(sampler, prompts, trie).ok
