"""The searches on tensors against those in NumPy, and what they ask of a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from decode_kit import model, random_prompts, random_trie
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_search import BeamSearch, ExactSearch, Table

from llmrec.decode import beam_search, exact_search
from llmrec.decode.base import in_batches
from llmrec.decode.costs import Costs, bytes_per_token, users_at_once
from llmrec.decode.device_trie import children, on_device
from llmrec.decode.rule import Rule
from llmrec.decode.scoring import Continuations
from llmrec.decode.top_k import best
from llmrec.trie import Trie
from speed.operators import Crossings, Operators

CPU = torch.device("cpu")
EOS, N_USERS = 1, 3
RULES = [
    Rule(),
    Rule(length_penalty=1.0),
    Rule(length_penalty=-0.5),
    Rule(space="full", length_penalty=1.0),
    Rule(space="full"),
    Rule(length="branching", length_penalty=1.0),
    Rule(space="full", length="branching", length_penalty=1.0, prune="score"),
    Rule(space="full", length="fan_out", a="length", length_penalty=1.0, prune="score"),
    Rule(space="full", length="fan_out", a="length", be=0.1, length_penalty=1.0),
    Rule(length="fan_out", a="length", be=0.5, length_penalty=0.7, prune="score"),
    Rule(length="fan_out", length_penalty=-0.5, prune="score"),
    Rule(length="fan_out", a="length"),
]
# few tokens and short answers: prefixes of one another, repeated titles, unary chains
ANSWERS = st.lists(st.lists(st.integers(2, 6), max_size=5), min_size=1, max_size=25)
KINDS = st.sampled_from(["random", "halves", "flat"])


def table(answers, rule: Rule, kind: str, seed: int) -> Table:
    """A trie and random log-probabilities: all different, of few values with many ties, or uniform."""
    trie = Trie.of([[*answer, EOS] for answer in answers], EOS)
    chance = np.random.default_rng(seed)
    logits_BE = 3 * chance.normal(size=(N_USERS, trie.n_edges))
    if kind != "random":
        logits_BE = np.zeros_like(logits_BE) if kind == "flat" else logits_BE.round(0) / 2
    at = np.repeat(np.arange(trie.n_nodes), trie.fan_out_M)
    total_BM = np.zeros((N_USERS, trie.n_nodes))
    np.add.at(total_BM, (slice(None), at), np.exp(logits_BE))
    logp_BE = logits_BE - np.log(total_BM[:, at])
    if rule.space == "full":  # what is not valid takes its part
        return Table(trie, rule, logp_BE - 0.5)
    logp_BE[:, trie.fan_out_M[at] == 1] = 0
    return Table(trie, rule, logp_BE)


def follow(known: Table):
    """The model's side of a search that reads its log-probabilities from the table."""
    nothing_B1 = torch.zeros(N_USERS, 1, dtype=torch.float64)
    logp_BE = torch.cat([torch.from_numpy(known.logp_BE), nothing_B1], 1)
    return lambda node_BW, slot_BW, tokens_B, kids: (logp_BE.gather(1, kids.edge_BC), slot_BW)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ANSWERS, st.sampled_from(RULES), KINDS, st.sampled_from([1, 3, 10]), st.integers(0, 999))
def test_beam_search_equals_numpys(answers, rule, kind, beams, seed):
    known = table(answers, rule, kind, seed)
    wanted = BeamSearch(known, beams)
    wanted.run()
    trie = on_device(known.trie, rule, CPU)
    end, _ = beam_search.search(trie, rule, follow(known), N_USERS, beams)
    np.testing.assert_array_equal(end.leaf_BW, wanted.leaf_BW)
    np.testing.assert_allclose(end.final_BW, wanted.final_BW, rtol=1e-12)
    np.testing.assert_allclose(end.lost_B, wanted.lost_B, rtol=1e-12)
    for k in (1, beams):
        np.testing.assert_array_equal(end.certified(k, 1e-6), wanted.certified(k, 1e-6))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    ANSWERS,
    st.sampled_from([rule for rule in RULES if rule.forced_is_free]),
    KINDS,
    st.sampled_from([1, 3, 10]),
    st.sampled_from([(5, 2000), (1, 2000), (2, 3)]),
    st.integers(0, 999),
)
def test_exact_search_equals_numpys(answers, rule, kind, k, width_and_budget, seed):
    known = table(answers, rule, kind, seed)
    width, budget = width_and_budget
    limits = exact_search.Limits(k=k, width=width, budget=budget, margin=1e-6)
    wanted = ExactSearch(known, limits)
    wanted.run()
    trie = on_device(known.trie, rule, CPU)
    end, proven_B = exact_search.search(trie, rule, follow(known), N_USERS, limits)
    np.testing.assert_array_equal(end.leaf_BK, wanted.leaf_BK)
    np.testing.assert_allclose(end.final_BK, wanted.final_BK, rtol=1e-12)
    np.testing.assert_array_equal(proven_B, wanted.proven())
    np.testing.assert_array_equal(end.expanded_B, wanted.expanded_B)


def test_equal_scores_go_to_the_smaller_item():
    score_BC = torch.tensor([[1.0, 2.0, 2.0, 2.0], [0.5, *[-torch.inf] * 3]])
    tie_BC = torch.tensor([[0, 9, 4, 6], [1, 99, 99, 99]])
    assert best(score_BC, tie_BC, 2)[0].tolist() == [2, 3]
    assert best(score_BC, tie_BC, 2)[1, 0] == 0
    assert best(score_BC, tie_BC, 4)[0].tolist() == [2, 3, 1, 0]


def test_children_of_prefixes_stand_side_by_side():
    # 10 - 11 - eos; 10 - 12 - eos; 13 - eos
    trie = on_device(Trie.of([[10, 11, 1], [10, 12, 1], [13, 1]], 1), Rule(), CPU)
    ten = int(trie.child_E[0])
    kids = children(trie, torch.tensor([[0, ten], [ten, trie.none]]), 5)
    tokens = torch.where(kids.node_BC == trie.none, -1, trie.token_E[kids.edge_BC])
    assert tokens.tolist() == [[10, 13, 11, 12, -1], [11, 12, -1, -1, -1]]
    assert kids.beam_BC[0, :4].tolist() == [0, 0, 1, 1]
    assert trie.segment_M[[0, ten]].tolist() == [0, 1] and trie.table_U.tolist() == [10, 11, 12, 13]


class Strict(Operators):
    """Refuses what a GPU's host would wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = super().__torch_dispatch__(func, types, args, kwargs)
        assert not self.waits, func
        return found


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The choices of a device whose host has to wait for what it reads."""
    costs = Costs(10_000, opening_tokens=10_000, few=0.0, logits=2**28, reads=True, padding=0.08)
    monkeypatch.setattr("llmrec.decode.tree.Costs.of", lambda lm: costs)


@pytest.mark.parametrize("space", ["valid", "full"])
def test_a_step_reads_once_and_waits_for_nothing_else(as_on_a_gpu, space):
    lm = model()
    prompts, trie, rule = random_prompts(6), random_trie(lm, 5, n_items=80), Rule(space=space)
    with torch.no_grad(), Strict(), Crossings() as crossings:
        asked = Continuations(lm, prompts, trie, rule)
        before, copied = crossings.reads, crossings.copies_in
        steps = 0

        def counting(*inputs):
            nonlocal steps
            steps += 1
            return asked(*inputs)

        beam_search.search(asked.trie, rule, counting, len(prompts), 4)
        assert crossings.reads - before == 2 * (steps + 1), "one .cpu().numpy() a step"
        assert steps > 3 and crossings.copies_in == copied
        if space == "valid":
            asked, steps, before = Continuations(lm, prompts, trie, rule), 0, crossings.reads
            limits = exact_search.Limits(k=3, width=2, budget=99, margin=1e-3)
            exact_search.search(asked.trie, rule, counting, len(prompts), limits)
            assert crossings.reads - before == 2 * (steps + 1)


@pytest.mark.parametrize("space", ["valid", "full"])
def test_choices_by_device_move_no_list(request, space):
    lm = model().double()
    prompts, trie, rule = random_prompts(9), random_trie(lm, 3, n_items=80), Rule(space=space)

    def found():
        asked = Continuations(lm, prompts, trie, rule)
        with torch.no_grad():
            return beam_search.search(asked.trie, rule, asked, len(prompts), 5)[0]

    here = found()
    request.getfixturevalue("as_on_a_gpu")
    there = found()
    np.testing.assert_array_equal(here.leaf_BW, there.leaf_BW)
    np.testing.assert_allclose(here.final_BW, there.final_BW, rtol=1e-9)


def test_the_operators_of_a_step_do_not_grow_with_the_users():
    known = table([[2, 3, 4], [2, 3], [5], [5, 6], [6, 2]], Rule(), "random", 0)
    trie = on_device(known.trie, Rule(), CPU)

    def step(n_users):
        state = beam_search.Beams.at_root(trie, n_users, 4)
        kids = children(trie, state.node_BW, 8)
        logp_BC = torch.zeros(kids.edge_BC.shape, dtype=torch.float64)
        with Operators() as counted:
            beam_search.advance(trie, Rule(), state, kids, logp_BC)
        return counted.calls.total()

    assert step(1) == step(50) < 100


def test_a_step_compiles_whole_and_gives_the_same():
    known = table([[2, 3, 4], [2, 3], [5], [5, 6], [6, 2], [6, 3]], Rule(), "random", 1)
    trie = on_device(known.trie, Rule(), CPU)
    state = beam_search.Beams.at_root(trie, N_USERS, 3)
    kids = children(trie, state.node_BW, 8)
    logp_BC, _ = follow(known)(None, None, None, kids)
    compiled = torch.compile(beam_search.advance, backend="aot_eager", fullgraph=True)
    for made, wanted in zip(
        vars(compiled(trie, Rule(), state, kids, logp_BC)).values(),
        vars(beam_search.advance(trie, Rule(), state, kids, logp_BC)).values(),
        strict=True,
    ):
        torch.testing.assert_close(made, wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    "fault",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("Expected mha_graph.execute(handle, variant_pack).is_good() to be true"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_half_as_many_users_where_memory_runs_out(fault):
    prompts, kept = random_prompts(9), []

    def decode(rows):
        if len(rows) > 2:
            raise fault
        kept.append(rows.tolist())

    told = []
    in_batches(prompts, 8, decode, lambda done, total: told.append((done, total)))
    assert (
        sorted(row for rows in kept for row in rows) == list(range(9)) and max(map(len, kept)) == 2
    )
    assert told[-1] == (9, 9)


def test_other_faults_and_a_single_user_are_not_tried_again():
    for rows, fault in ((3, RuntimeError("shape")), (1, torch.cuda.OutOfMemoryError())):
        with pytest.raises(type(fault)):
            in_batches(random_prompts(rows), 8, lambda _, fault=fault: (_ for _ in ()).throw(fault))


def test_a_cpu_decodes_as_many_users_together_as_it_is_told():
    lm = model()
    assert users_at_once(lm, random_prompts(3), 7) == 7
    config = lm.causal.config
    kept = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    active = 8 * config.hidden_size + 4 * config.intermediate_size
    assert bytes_per_token(lm) == 4 * (2 * kept + active)
