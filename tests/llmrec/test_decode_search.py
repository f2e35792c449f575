"""Beam and exact search against the dull scorer and against transformers' own beam search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from decode_kit import dull_scores, model, random_prompts, random_trie, title_trie, top

from bench.errors import ConfigError
from llmrec.decode.beam import Beam
from llmrec.decode.device_trie import on_device
from llmrec.decode.exact import Exact
from llmrec.decode.generate import Generate
from llmrec.decode.kv_cache import similar
from llmrec.decode.regret import beam_regret
from llmrec.decode.rule import Rule
from llmrec.decode.scoring import SLACK, SLACK_HALF, score_all, slack
from llmrec.decode.tree import CHUNK, Tree
from llmrec.decode.trie_index import index_of
from llmrec.lm.backbone import Backbone
from llmrec.prompt import Prompt
from llmrec.trie import Trie

RULES = [Rule(), Rule(tau=2.5), Rule(length_penalty=1.0), Rule(space="full", length_penalty=1.0)]
K = 10


@pytest.fixture(scope="module")
def lm():
    return model()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.words)
def test_scores_of_the_catalogue_equal_the_dull_ones(lm, rule):
    prompts, trie = random_prompts(3), title_trie(lm)
    np.testing.assert_allclose(
        score_all(lm, prompts, trie, rule), dull_scores(lm, prompts, trie, rule), atol=1e-4
    )


@pytest.mark.parametrize("seed", range(4))
def test_probabilities_of_the_catalogue_add_up_to_one(lm, seed):
    total_Q = np.exp(score_all(lm, random_prompts(3, seed), random_trie(lm, seed))).sum(1)
    np.testing.assert_allclose(total_Q, 1, atol=1e-5)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("space", "length_penalty", "beams"),
    [
        ("full", 1.0, 10),
        ("valid", 1.0, 10),
        ("valid", 0.0, 10),
        ("valid", 0.0, 3),
        ("full", -0.5, 4),
    ],
)
def test_beam_finds_what_transformers_finds(lm, space, length_penalty, beams, seed):
    prompts, trie = random_prompts(6, seed), random_trie(lm, seed, n_items=80)
    ours = Beam({"beams": beams, "space": space, "length_penalty": length_penalty, "batch": 4})
    theirs = Generate(
        {"beams": beams, "renormalize": space == "valid", "length_penalty": length_penalty}
    )
    got, wanted = (decoder(lm, prompts, trie, beams) for decoder in (ours, theirs))
    np.testing.assert_array_equal(got.leaf_QK, wanted.leaf_QK)
    np.testing.assert_allclose(got.score_QK, wanted.score_QK, atol=1e-4)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.words)
def test_beam_as_wide_as_the_catalogue_is_the_catalogue_in_order(lm, rule):
    prompts, trie = random_prompts(5), random_trie(lm, 7)
    options = {"space": rule.space, "length_penalty": rule.length_penalty, "tau": rule.tau}
    found = Beam({"beams": trie.n_leaves, **options})(lm, prompts, trie, trie.n_leaves)
    score_QL = score_all(lm, prompts, trie, rule)
    np.testing.assert_array_equal(found.leaf_QK, top(score_QL, trie.n_leaves))
    np.testing.assert_allclose(found.score_QK, -np.sort(-score_QL, 1), atol=1e-4)
    assert found.certified_Q.all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, -1.0])
def test_exact_equals_the_whole_catalogue(lm, seed, length_penalty):
    prompts, trie = random_prompts(5, seed), random_trie(lm, seed)
    rule = Rule(length_penalty=length_penalty)
    found = Exact({"length_penalty": length_penalty, "batch": 2})(lm, prompts, trie, K)
    score_QL = score_all(lm, prompts, trie, rule)
    np.testing.assert_array_equal(found.leaf_QK, top(score_QL, K))
    assert found.certified_Q.all()
    assert found.facts["certified_share"] == 1.0


def test_exact_on_titles_equals_the_dull_scores(lm):
    prompts, trie = random_prompts(4), title_trie(lm)
    assert trie.n_leaves < trie.n_items, "two items share a title"
    found = Exact()(lm, prompts, trie, K)
    np.testing.assert_array_equal(found.leaf_QK, top(dull_scores(lm, prompts, trie, Rule()), K))


def test_exact_saves_work_and_stops_at_its_budget(lm):
    prompts, trie = random_prompts(4), random_trie(lm, 3, n_items=200)
    free = Exact({"width": 1})(lm, prompts, trie, 3)
    choices = int((trie.fan_out_M > 1).sum())
    assert free.facts["expansions_max"] < choices / 2
    tight = Exact({"budget": 1})(lm, prompts, trie, 3)
    assert tight.facts["expansions_max"] == 1
    assert not tight.certified_Q.any()


def test_certificates_are_never_wrong(lm):
    right, claimed = 0, 0
    for seed in range(6):
        prompts, trie = random_prompts(4, seed), random_trie(lm, seed, n_items=100)
        for options in ({}, {"length_penalty": 1.0}, {"space": "full"}):
            found = Beam({"beams": 4, **options})(lm, prompts, trie, 3)
            rule = Rule(**options)
            same_Q = (found.leaf_QK == top(score_all(lm, prompts, trie, rule), 3)).all(1)
            assert same_Q[found.certified_Q].all()
            right, claimed = right + same_Q.sum(), claimed + found.certified_Q.sum()
    assert 0 < claimed <= right < 6 * 3 * 4, (
        "all three kinds have to occur for this to test anything"
    )


@pytest.mark.parametrize("decoder", [Beam(), Beam({"space": "full"}), Exact(), Generate()])
def test_lists_do_not_depend_on_the_batch_or_the_order(lm, decoder):
    prompts, trie = random_prompts(7), random_trie(lm, 5)
    whole = decoder(lm, prompts, trie, K)
    order = np.random.default_rng(0).permutation(7)
    mixed = decoder(lm, [prompts[row] for row in order], trie, K)
    np.testing.assert_array_equal(mixed.leaf_QK, whole.leaf_QK[order])
    np.testing.assert_array_equal(mixed.score_QK, whole.score_QK[order])
    for size in (1, 3):
        small = type(decoder)(decoder.config.replace(batch=size))(lm, prompts, trie, K)
        np.testing.assert_array_equal(small.leaf_QK, whole.leaf_QK)
        np.testing.assert_allclose(small.score_QK, whole.score_QK, atol=1e-4)


@pytest.mark.parametrize("decoder", [Beam(), Beam({"space": "full"}), Exact(), Generate()])
def test_a_catalogue_smaller_than_the_list_gives_a_shorter_list(lm, decoder):
    eos = lm.tokenizer.eos_token_id
    three = Trie.of([[30, 31, eos], [30, eos], [40, eos], [30, eos]], eos)
    found = decoder(lm, random_prompts(3), three, K)
    assert [sorted(row[row >= 0]) for row in found.leaf_QK] == [[0, 1, 2]] * 3
    assert (found.leaf_QK[:, 3:] == -1).all() and np.isneginf(found.score_QK[:, 3:]).all()
    assert not found.failed_Q.any()
    one = Trie.of([[30, 31, 32, eos]], eos)
    found = decoder(lm, random_prompts(2), one, K)
    np.testing.assert_array_equal(found.leaf_QK, [[0] + [-1] * 9] * 2)


@pytest.mark.parametrize("decoder", [Beam(), Beam({"space": "full"}), Exact(), Generate()])
def test_soft_tokens_reach_every_decoder(lm, decoder):
    class Soft(type(lm)):
        """Puts a vector of its own where a slot is, and nothing that has a token."""

        def embed(self, ids_BL, slots_BL=None):
            embeds = super().embed(ids_BL, slots_BL)
            vector = torch.linspace(-8, 8, embeds.shape[-1]) * slots_BL[..., None]
            return torch.where((slots_BL != 0)[..., None], vector, embeds)

    soft = Soft(lm.model, lm.tokenizer, name="soft", pretrained=False)
    plain, trie = random_prompts(3), random_trie(lm, 2, n_items=20)
    prompts = []
    for row, prompt in enumerate(plain):
        slots = prompt.slots.copy()
        slots[[1, 4]] = (row + 1, -1)
        prompts.append(Prompt(prompt.ids, slots))
    found = decoder(soft, prompts, trie, 5)
    rule = getattr(decoder.config, "scoring", Rule(space="full", length_penalty=1.0))
    score_QL = dull_scores(soft, prompts, trie, rule)
    np.testing.assert_allclose(
        found.score_QK, np.take_along_axis(score_QL, found.leaf_QK.astype(int), 1), atol=1e-4
    )
    assert (found.leaf_QK != decoder(lm, plain, trie, 5).leaf_QK).any()


def test_long_answers_are_computed_in_chunks(lm, monkeypatch):
    assert CHUNK > 4
    prompts, trie = random_prompts(3), random_trie(lm, 1)
    whole = score_all(lm, prompts, trie)
    monkeypatch.setattr("llmrec.decode.tree.CHUNK", 4)
    np.testing.assert_allclose(score_all(lm, prompts, trie), whole, atol=1e-5)


def test_eager_attention_gives_the_same(lm):
    eager = model()
    eager.model.set_attn_implementation("eager")
    prompts, trie = random_prompts(4), random_trie(lm, 1)
    one, two = (Exact()(which, prompts, trie, K) for which in (lm, eager))
    np.testing.assert_array_equal(one.leaf_QK, two.leaf_QK)


def test_attention_without_masks_is_refused(lm, monkeypatch):
    monkeypatch.setattr(lm.causal.config, "_attn_implementation_internal", "flash_attention_2")
    with pytest.raises(ConfigError, match=r"flash_attention_2.*sdpa"):
        Beam()(lm, random_prompts(1), title_trie(lm), 3)


def test_dropout_is_off_while_decoding_and_back_afterwards():
    lm = model()
    prompts, trie = random_prompts(3), random_trie(lm, 1)
    calm = Exact()(lm, prompts, trie, K)
    lm.model.config.attention_dropout = 0.5
    for layer in lm.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    lm.train()
    found = Exact()(lm, prompts, trie, K)
    np.testing.assert_array_equal(found.score_QK, calm.score_QK)
    assert lm.training and lm.model.model.layers[0].training


def mistral(sizes):
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(sliding_window=6, **sizes))


def gemma(sizes):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(sliding_window=6, layer_types=kinds, **sizes))


@pytest.mark.parametrize("family", [mistral, gemma])
def test_sliding_windows_are_kept(lm, family):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    network = family({"vocab_size": 512, "initializer_range": 0.3, **sizes, **heads}).eval()
    windowed = Backbone(network, lm.tokenizer, name=family.__name__, pretrained=False)
    prompts, trie = random_prompts(3), title_trie(lm)
    np.testing.assert_allclose(
        score_all(windowed, prompts, trie), dull_scores(windowed, prompts, trie, Rule()), atol=1e-4
    )


def test_more_results_than_beams_is_refused_with_both_numbers(lm):
    for decoder in (Beam({"beams": 5}), Generate({"beams": 5})):
        with pytest.raises(ValueError, match="a list of 10 from 5 beams"):
            decoder(lm, random_prompts(1), title_trie(lm), 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beams": 0}, "beams is 0"),
        ({"space": "half"}, "'half'"),
        ({"tau": 0.0}, "tau is 0"),
        ({"tau": "hot"}, "tau is 'hot'; allowed: a number, above 0 or train"),
        ({"tau": None}, "tau is null"),
        ({"tau": "train", "space": "half"}, "'half'"),
        ({"audit": -1}, "audit is -1"),
        ({"beam": 3}, "no key 'beam'"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_wrong_options_are_refused_with_the_value(options, words):
    with pytest.raises(ConfigError, match=words):
        Beam(options)


def test_a_model_without_opinion_lists_items_in_order(lm):
    flat = model()
    with torch.no_grad():
        flat.model.get_input_embeddings().weight.zero_()
    eos = lm.tokenizer.eos_token_id
    trie = Trie.of([[token, eos] for token in (90, 50, 70, 30, 80)], eos)
    for decoder in (Beam({"beams": 3}), Exact()):
        assert decoder(flat, random_prompts(1), trie, 3).leaf_QK.tolist() == [[0, 1, 2]]


def test_regret_of_a_narrow_beam(lm):
    prompts, trie = random_prompts(12), random_trie(lm, 4, n_items=150)
    wide = beam_regret(lm, prompts, trie, 3, beam=Beam({"beams": trie.n_leaves}))
    assert wide["overlap"] == wide["identical"] == wide["certified"] == 1.0
    assert abs(wide["mass"]) < 1e-6
    truth = Exact()(lm, prompts, trie, 3)
    narrow = beam_regret(
        lm, prompts, trie, 3, beam=Beam({"beams": 3}), target_Q=truth.leaf_QK[:, 0]
    )
    assert narrow["overlap"] < 1 and narrow["mass"] > 0 and narrow["identical"] < 1
    assert narrow["ndcg"] == pytest.approx(0, abs=1e-9) or narrow["ndcg"] > 0


def test_a_sample_of_the_users_is_audited_and_no_list_moves(lm):
    prompts, trie = random_prompts(40), random_trie(lm, 4, n_items=150)
    plain, told = (Beam({"beams": 3, "audit": n})(lm, prompts, trie, 3) for n in (0, 32))
    np.testing.assert_array_equal(plain.leaf_QK, told.leaf_QK)
    np.testing.assert_array_equal(plain.score_QK, told.score_QK)
    assert "audited" not in plain.facts and told.facts["audited"] == 5  # an eighth
    few = [0, 10, 20, 29, 39]
    truth = Exact()(lm, [prompts[query] for query in few], trie, 3).leaf_QK
    assert told.facts["beam_agreement"] == (told.leaf_QK[few] == truth).all(1).mean()
    hits = [len(set(a) & set(b)) / 3 for a, b in zip(told.leaf_QK[few], truth, strict=True)]
    assert told.facts["beam_regret"] == pytest.approx(1 - np.mean(hits))
    wide = Beam({"beams": trie.n_leaves})(lm, prompts, trie, 3).facts
    assert (wide["beam_regret"], wide["beam_agreement"], wide["audited"]) == (0, 1, 5)
    assert "steps" not in wide, "a row has the optimizer's"


def test_the_audit_leaves_out_what_it_cannot_prove(lm, monkeypatch):
    prompts, trie = random_prompts(3), random_trie(lm, 4, n_items=150)
    assert "audited" not in Beam({"space": "full"})(lm, prompts, trie, 3).facts
    assert "audited" not in Beam()(lm, [], trie, 3).facts
    monkeypatch.setattr("llmrec.decode.regret.BUDGET", 1)
    facts = Beam()(lm, prompts, trie, 3).facts
    assert facts["audited"] == 0 and "beam_regret" not in facts


def test_a_temperature_of_the_training_has_to_be_filled_in(lm):
    for decoder in (Beam({"tau": "train"}), Exact({"tau": "train"})):
        with pytest.raises(ConfigError, match=r"tau is 'train'.*give a number"):
            decoder(lm, random_prompts(1), title_trie(lm), 3)


def test_the_margin_of_a_proof_follows_the_coarsest_layer():
    lm = model()
    assert slack(lm) == SLACK[torch.float32]
    lm.causal.is_quantized = True  # the embedding is in full precision all the same
    assert slack(lm) == SLACK_HALF
    lm.causal.is_quantized = False
    lm.causal.model.layers[0].mlp.to(torch.bfloat16)
    assert slack(lm) == SLACK_HALF
    assert slack(Backbone(model().model.double(), lm.tokenizer, name="d", pretrained=False)) == 1e-6


def test_shape_of_a_trie_drawn_by_hand():
    # 10 - 11 - eos (item 1, leaf 0); 10 - 11 - 12 - eos (item 2); 13 - eos (item 3)
    trie = Trie.of([[10, 11, 1], [10, 11, 12, 1], [13, 1]], 1)
    shape = index_of(trie)
    ten, eleven = int(trie.path[0][1]), int(trie.path[0][2])
    assert shape.branch_M[ten] == eleven and shape.branch_M[eleven] == eleven
    assert shape.depth_M[[0, ten, eleven]].tolist() == [0, 1, 2]
    least_M, most_M = shape.extremes(shape.depth_M.astype(float))
    assert (least_M[0], most_M[0]) == (2, 4)
    assert (least_M[ten], most_M[ten]) == (3, 4)
    assert shape.first_leaf_M[ten] == 0 and shape.token_M[ten] == 10


def test_the_prompt_is_computed_once_whatever_the_beams(lm):
    prompts, trie = random_prompts(4), random_trie(lm, 5)
    seen = []
    body = lm.body

    def counting(**inputs):
        seen.append(inputs["embeds_BLD"].shape[:2].numel())
        return body(**inputs)

    lm.body = counting
    try:
        found = Beam()(lm, prompts, trie, K)
    finally:
        del lm.body
    assert seen[0] == 3, "the shared beginning once, not once per user"
    own = sum(len(prompt) - 3 for prompt in prompts)
    tree_tokens = 4 * K * found.facts["decode_steps"]
    assert own + found.facts["tree_tokens_per_user"] * 4 <= sum(seen[1:])
    assert sum(seen[1:]) <= 1.08 * own + 32 + tree_tokens < K * own


def test_users_of_similar_length_are_computed_together():
    groups = similar(np.array([100, 101, 102, 500, 505, 900]), 32, 0.08)
    assert [group.tolist() for group in groups] == [[0, 1, 2], [3, 4], [5]]
    assert len(similar(np.array([3, 5, 9, 12]), 32, 0.08)) == 1, "short prompts are cheaper padded"


def test_prompts_of_one_user_need_no_partner(lm):
    (prompt,) = random_prompts(1)
    trie = on_device(title_trie(lm), Rule(), lm.device)
    root_11 = torch.zeros(1, 1, dtype=torch.int64)
    hidden_11D, _ = Tree(lm, [prompt], trie).extend(root_11, root_11, np.zeros(1, np.int64))
    with torch.no_grad():
        ids = torch.as_tensor(prompt.ids[None].astype(np.int64))
        wanted = lm.model.model(ids).last_hidden_state[0, -1]
    torch.testing.assert_close(hidden_11D[0, 0], wanted, atol=1e-5, rtol=1e-5)
