"""Scoring rules with lengths of their own: LBR's decoder and D3's length, on tries drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from decode_kit import model, random_prompts, random_trie, top

from bench.errors import ConfigError
from bench.method import configure
from llmrec.decode import beam_search
from llmrec.decode.beam import Beam
from llmrec.decode.device_trie import on_device
from llmrec.decode.exact import Exact
from llmrec.decode.rule import Rule
from llmrec.decode.scoring import score_all
from llmrec.trie import Trie

CPU, EOS = torch.device("cpu"), 1
LBR = {"space": "full", "length": "fan_out", "a": "length", "length_penalty": 1.0}
HF = {"space": "full", "length_penalty": 1.0}
# titles of 2, 6 and 6 tokens; of the long ones 4 tokens are forced: 12, 13, 14 and the end
LONG = [[10, EOS], [11, 12, 13, 14, 15, EOS], [11, 12, 13, 14, 16, EOS]]


def searched(paths, logp, rule, beams, n_users=1):
    """Leaves and scores of a beam search in which each token always has the same log-probability."""
    trie = on_device(Trie.of(paths, EOS), rule, CPU)
    logp_E = torch.tensor([logp.get(int(token), -0.01) for token in trie.token_E])

    def follow(node_BW, slot_BW, tokens_B, kids):
        return logp_E.double()[kids.edge_BC], slot_BW

    end, _ = beam_search.search(trie, rule, follow, n_users, beams)
    return end.leaf_BW[0].tolist(), end.final_BW[0].tolist()


def scores(paths, logp, rule):
    leaf_L, final_L = searched(paths, logp, rule, len(paths))
    return dict(zip(leaf_L, final_L, strict=True))


def test_a_forced_token_moves_hfs_score_and_not_lbrs():
    sure = {10: -1.0, 11: -0.5, 15: -0.4, 16: -1.2, 13: -0.1}
    unsure = sure | {13: -3.0}
    for rule, moves in ((HF, True), (LBR, False)):
        one, two = (scores(LONG, logp, Rule(**rule))[1] for logp in (sure, unsure))
        assert (one - two > 0.4) == moves and (moves or one == two)
    lbr, hf = scores(LONG, sure, Rule(**LBR)), scores(LONG, sure, Rule(**HF))
    # two choices between two tokens each: weights ln 2, so the mean of the two
    assert lbr[1] == pytest.approx((-0.5 - 0.4) / 2) and lbr[0] == pytest.approx(-1.0)
    assert hf[1] == pytest.approx((-0.5 - 0.4 - 0.1 - 3 * 0.01) / 6)


def test_forced_tokens_leave_the_length_alone():
    logp = {10: -1.0, 11: -0.5, 15: -0.4, 16: -1.2}
    found = scores(LONG, logp, Rule(space="full", length="branching", length_penalty=1.0))
    assert found[1] == pytest.approx((-0.5 - 0.4 - 4 * 0.01) / 2)
    assert found[0] == pytest.approx(-1.01)


def test_beams_compared_by_sum_and_by_score_differ():
    # behind 10 one token is valid, behind 11 two: sums -1.3, -2.0, -2.2; scores -1.3, -1.0, -1.1
    paths = [[10, 20, EOS], [11, 21, EOS], [11, 22, EOS]]
    logp = {10: -1.0, 11: -1.4, 20: -0.3, 21: -0.6, 22: -0.8}
    rule = {"space": "full", "length": "branching", "length_penalty": 1.0}
    by_sum, _ = searched(paths, logp, Rule(**rule), 2)
    by_score, _ = searched(paths, logp, Rule(**rule, prune="score"), 2)
    assert (by_sum, by_score) == ([1, 0], [1, 2])


def test_a_catalogue_of_one_title_scores_0_where_no_token_has_a_length():
    assert scores([[10, 11, EOS]], {10: -2.0}, Rule(**LBR)) == {0: 0.0}


@pytest.fixture(scope="module")
def lm():
    return model()


def test_lbr_with_equal_weights_is_the_mean_per_token(lm):
    prompts, trie = random_prompts(4), random_trie(lm, 2, n_items=80)
    plain = Beam({**HF, "audit": 0})(lm, prompts, trie, 5)
    same = Beam({**LBR, "al": 0.0, "be": 1.0, "audit": 0})(lm, prompts, trie, 5)
    np.testing.assert_array_equal(same.leaf_QK, plain.leaf_QK)
    np.testing.assert_array_equal(same.score_QK, plain.score_QK)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "options",
    [
        LBR,
        {**LBR, "length_penalty": 0.0},
        {"length": "branching", "length_penalty": 1.0},
        {"length": "fan_out", "be": 0.1, "length_penalty": 0.7},
        {"length": "fan_out", "a": "length", "length_penalty": -0.5},
    ],
    ids=str,
)
def test_exact_equals_the_whole_catalogue_under_each_rule(lm, options, seed):
    prompts, trie = random_prompts(4, seed), random_trie(lm, seed)
    found = Exact(options)(lm, prompts, trie, 10)
    wanted_QL = score_all(lm, prompts, trie, Rule(**options))
    np.testing.assert_array_equal(found.leaf_QK, top(wanted_QL, 10))
    assert found.certified_Q.all()


def test_certificates_hold_under_lbr(lm):
    claimed = 0
    for seed in range(3):
        prompts, trie = random_prompts(4, seed), random_trie(lm, seed, n_items=100)
        for options in ({**LBR, "prune": "score"}, {**LBR, "be": 0.1}):
            found = Beam({"beams": 30, **options, "audit": 4})(lm, prompts, trie, 3)
            same_Q = (found.leaf_QK == top(score_all(lm, prompts, trie, Rule(**options)), 3)).all(1)
            assert same_Q[found.certified_Q].all()
            assert ("audited" in found.facts) == ("be" not in options)
            claimed += found.certified_Q.sum()
    assert claimed > 0


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (Exact, {"space": "full"}, "space is 'full'.*take space 'valid', the decoder 'beam'"),
        (Exact, {**LBR, "be": 0.5}, "space is 'full'"),
        (Beam, {"length": "fan_out", "al": 0.0}, "al and be are 0"),
        (Beam, {"be": -1.0}, "be is -1"),
        (Beam, {"prune": "best"}, "'best'"),
    ],
)
def test_rules_without_a_meaning_are_refused(kind, options, words):
    with pytest.raises(ConfigError, match=words):
        kind(options)


@pytest.mark.parametrize("kind", [Beam, Exact])
def test_what_was_declared_before_these_options_is_declared_as_it_was(kind):
    told = configure(kind, {}).declared()
    assert not {"length", "a", "al", "be", "prune"} & told.keys()
    assert ("space" in told) == (kind is Beam)
    assert kind({}).rule.endswith("sum of log-probabilities over valid tokens / length^0, tau 1")
