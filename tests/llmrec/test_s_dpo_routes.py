"""Prompts computed once for all their answers: equal to one sequence per answer, in loss and gradients."""

import math

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from bench.errors import ConfigError
from llmrec.lm import backbone
from llmrec.lm.backbone import Backbone, Lora, adapted
from llmrec.preference.rows import PreferenceRow
from llmrec.preference.s_dpo import SDPO
from llmrec.preference.training import PreferenceBatchLoss
from llmrec.prompt import Prompt
from llmrec.training.shared_prefix import LogProbs, fork
from llmrec.trie import for_titles

TITLES = (
    "",
    "A Kite",
    "A Kite on a Very Long String",
    "Ball",
    "A",
    "Lorry (Red, 1955)",
    "Drum",
    "Top",
)
OPENING = [20, 21, 22, 23]


def jolt(lm):
    """Sharper predictions and adapters that do something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.add_(0.15 * torch.randn_like(parameter))
    return lm


def llama():
    return jolt(backbone.load("tiny"))


def with_adapters():
    lm = backbone.load("tiny")
    model = adapted(lm.model, Lora(r=4, dropout=0.0), seed=0)
    return jolt(Backbone(model, lm.tokenizer, name="adapted", pretrained=True))


SHAPE = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,  # fewer keys than queries
    "sliding_window": 12,  # shorter than the prompts
}


def windowed():
    model = MistralForCausalLM(MistralConfig(**SHAPE, num_hidden_layers=2, head_dim=8))
    tokenizer = backbone.load("tiny").tokenizer
    return jolt(Backbone(model, tokenizer, name="mistral", pretrained=False))


def mixed():
    config = Gemma2Config(**SHAPE, num_hidden_layers=2, head_dim=8, attn_implementation="eager")
    tokenizer = backbone.load("tiny").tokenizer
    return jolt(Backbone(Gemma2ForCausalLM(config), tokenizer, name="gemma2", pretrained=False))


class Soft(Backbone):
    """A vector of its own for every slot, learnt."""

    def embed(self, ids_BL, slots_BL=None):
        text_BLD = super().embed(ids_BL)
        return torch.where((slots_BL > 0)[..., None], self.vectors(slots_BL), text_BLD)


def soft():
    lm = backbone.load("tiny")
    lm = Soft(lm.model.requires_grad_(False), lm.tokenizer, name="soft", pretrained=True)
    lm.vectors = torch.nn.Embedding(50, lm.causal.config.hidden_size)
    return jolt(lm)


MODELS = [llama, with_adapters, windowed, mixed, soft]


def preference_rows(trie, k, n=6, slots=False):
    chance = np.random.default_rng(0)
    rows = []
    for length in chance.integers(3, 30, n):
        ids = np.array([*OPENING, *chance.integers(10, 400, length)], np.int32)
        slot = np.zeros_like(ids)
        slot[len(OPENING) + 1] = chance.integers(1, 50) if slots else 0
        leaf_J = chance.permutation(trie.n_leaves)[: 1 + k]
        reference_J = -chance.random(1 + k).astype(np.float32)
        rows.append(PreferenceRow(Prompt(ids, slot), leaf_J[None], reference_J[None]))
    return rows


def step(lm, rows, *, together, shared, size=8):
    """Mean loss and gradients of a step."""
    trie = for_titles(TITLES, lm.tokenizer)
    loss = SDPO({"beta": 0.2}, trie, vocabulary=512, avt=2.0)
    log_probs = LogProbs(loss, trie, shared, together=together)
    batch_loss = PreferenceBatchLoss(loss, log_probs, steps_per_epoch=1)
    lm.zero_grad()
    total = 0.0
    for part in batch_loss.parts(rows, size):
        summed = batch_loss.sum(lm, part) / batch_loss.count(rows)
        summed.backward()
        total += float(summed.detach())
    return total, torch.cat([p.grad.flatten() for p in lm.trainable().values()]), batch_loss.tokens


def dull_log_prob(lm, prompt, answer):
    """One answer alone behind its prompt, all logits."""
    ids = torch.from_numpy(np.concatenate([prompt.ids, answer]).astype(np.int64))[None]
    slots = torch.from_numpy(np.concatenate([prompt.slots, 0 * answer]).astype(np.int64))[None]
    logits = lm.causal(inputs_embeds=lm.embed(ids, slots)).logits[0, len(prompt) - 1 : -1]
    places = torch.arange(len(answer)), torch.from_numpy(answer.astype(np.int64))
    return logits.double().log_softmax(-1)[places].sum()


@pytest.mark.parametrize("shared", [0, len(OPENING)])
@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("together", [True, False])
def test_log_probabilities_equal_those_of_single_answers(make, together, shared):
    lm = make().eval()
    trie = for_titles(TITLES, lm.tokenizer)
    rows = preference_rows(trie, 4, slots=make is soft)
    loss = SDPO(None, trie, vocabulary=512, avt=2.0)
    leaf_BJ = np.stack([row.leaf_EJ[0] for row in rows])
    prompts = [row.prompt for row in rows]
    with torch.no_grad():
        found, _ = LogProbs(loss, trie, shared, together=together)(lm, prompts, leaf_BJ)
        expected = [
            [dull_log_prob(lm, prompt, trie.answer[leaf]) for leaf in leaves]
            for prompt, leaves in zip(prompts, leaf_BJ, strict=True)
        ]
    torch.testing.assert_close(
        found.double(), torch.tensor(expected).double(), rtol=2e-5, atol=1e-4
    )


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("k", [1, 3])
def test_loss_and_gradients_equal_the_plain_route(make, k):
    lm = make().train()
    rows = preference_rows(for_titles(TITLES, lm.tokenizer), k, slots=make is soft)
    plain, plain_gradient, plain_tokens = step(lm, rows, together=False, shared=0)
    assert plain_gradient.norm() > 0
    for shared, size in ((0, 8), (len(OPENING), 8), (len(OPENING), 2)):
        loss, gradient, tokens = step(lm, rows, together=True, shared=shared, size=size)
        assert loss == pytest.approx(plain, abs=1e-5)
        assert (gradient - plain_gradient).norm() <= 1e-4 * plain_gradient.norm()
        assert tokens < plain_tokens


def test_every_token_is_laid_out_once():
    lm = llama()
    trie = for_titles(TITLES, lm.tokenizer)
    rows = preference_rows(trie, 3, n=3)
    leaf_BJ = np.stack([row.leaf_EJ[0] for row in rows])
    prompts = [row.prompt for row in rows]
    laid = fork(prompts, leaf_BJ, trie, pad=0, shared=len(OPENING))
    answers = int(np.asarray(trie.answer.lengths)[leaf_BJ].sum())
    assert len(laid.answers) == answers
    assert laid.tokens == sum(map(len, prompts)) - 2 * len(OPENING) + answers - leaf_BJ.size
    for b, prompt in enumerate(prompts):
        whole = laid.part_BL[b] == 0
        assert laid.ids_BL[b][whole].tolist() == prompt.ids[len(OPENING) :].tolist()
        for j, leaf in enumerate(leaf_BJ[b], 1):
            fed = laid.part_BL[b] == j
            assert laid.ids_BL[b][fed].tolist() == trie.answer[leaf][:-1].tolist()
            places = np.arange(len(prompt), len(prompt) + int(fed.sum()))
            assert laid.place_BL[b][fed].tolist() == places.tolist()


def test_a_kernel_without_masks_is_refused():
    lm = llama()
    lm.causal.config._attn_implementation = "flash_attention_2"
    trie = for_titles(TITLES, lm.tokenizer)
    loss = SDPO(None, trie, vocabulary=512, avt=2.0)
    row = preference_rows(trie, 1, n=1)[0]
    with pytest.raises(ConfigError, match="flash_attention_2"):
        LogProbs(loss, trie)(lm, [row.prompt], row.leaf_EJ)


def test_the_first_loss_is_the_log_of_the_number_of_answers():
    lm = with_adapters().eval()
    trie = for_titles(TITLES, lm.tokenizer)
    loss = SDPO(None, trie, vocabulary=512, avt=2.0)
    rows = preference_rows(trie, 3)
    plain, fast = (LogProbs(loss, trie, together=together) for together in (False, True))
    leaf_BJ = np.stack([row.leaf_EJ[0] for row in rows])
    prompts = [row.prompt for row in rows]
    with torch.no_grad():
        reference_BJ, _ = plain(lm, prompts, leaf_BJ)
    log_prob_BJ, _ = fast(lm, prompts, leaf_BJ)
    torch.testing.assert_close(
        loss.preference(log_prob_BJ, reference_BJ),
        torch.full((len(rows),), math.log(4)),
        atol=1e-4,
        rtol=0,
    )
