"""Every loss against a loop with a logarithm in it, in fp64: value and gradient."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from bench.errors import ConfigError, ContractError
from bench.registry import losses
from llmrec.lm.device_costs import costs_of
from llmrec.lm.head import Head
from llmrec.losses import Answers, Loss
from llmrec.losses import _masked as masked
from llmrec.losses import _valid as valid_sets
from llmrec.losses.lml import lml
from llmrec.losses.msl import msl, msl_alpha
from llmrec.trie import Trie

V, D = 40, 7
TOKEN_LOSSES = ["lml", "lml_tau", "msl", "msl_tau", "msl_ats", "msl_alpha"]


def random_trie(seed: int = 0, n: int = 60, width: int = 12) -> Trie:
    """Ragged, with equal titles, an empty title and titles that begin others."""
    rng = np.random.default_rng(seed)
    paths = [[*rng.integers(1, width, rng.integers(0, 6)).tolist(), 0] for _ in range(n)]
    return Trie.of([*paths, [0], paths[0], [3, 3, 3, 0], [3, 3, 0]], 0)


def batch(trie: Trie, n: int = 24, seed: int = 1, dtype=torch.float64):
    leaves = np.random.default_rng(seed).integers(0, trie.n_leaves, n)
    answers = Answers.of(trie, leaves)
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(len(answers), D, generator=generator, dtype=torch.float64).to(dtype)
    return hidden.requires_grad_(), answers


def random_head(
    *, bias=False, scale=1.0, softcap=None, trainable=False, dtype=torch.float64
) -> Head:
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64).to(dtype)
    bias_V = torch.randn(V, generator=generator, dtype=torch.float64).to(dtype) if bias else None
    weight.requires_grad_(trainable)
    if bias_V is not None:
        bias_V.requires_grad_(trainable)
    return Head(weight, bias_V, scale, softcap)


def loop(hidden, head: Head, answers: Answers, *, sets=None, tau=1.0, alpha=None):
    """Row by row: log of the sum over the row's tokens, minus the label. Returns a list of scalars."""
    rows = []
    for at in range(len(answers)):
        label = int(answers.token_R[at])
        tokens = range(V) if sets is None else sets(int(answers.node_R[at]))
        total = torch.zeros((), dtype=hidden.dtype)
        for token in tokens:
            weight = 1.0 if alpha is None or token == label else alpha(len(tokens))
            total = total + weight * torch.exp(logit(hidden[at], head, token) / tau)
        rows.append(torch.log(total) - logit(hidden[at], head, label) / tau)
    return torch.stack(rows)


def logit(hidden_D, head: Head, token: int):
    value = (hidden_D * head.weight_VD[token]).sum()
    if head.bias_V is not None:
        value = value + head.bias_V[token]
    value = value * head.scale
    return value if head.softcap is None else head.softcap * torch.tanh(value / head.softcap)


def children_of(trie: Trie):
    return lambda node: trie.children(node)[0].tolist()


def assert_same(mine, reference, inputs):
    torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-11)
    weights = torch.linspace(
        0.5, 2.0, len(mine), dtype=mine.dtype
    )  # a backward that is not all ones
    got = torch.autograd.grad((mine * weights).sum(), inputs)
    want = torch.autograd.grad((reference * weights).sum(), inputs)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


HEADS = [
    {},
    {"bias": True},
    {"scale": 0.25},
    {"softcap": 3.0},
    {"bias": True, "scale": 0.5, "softcap": 2.0},
]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("tau", [1.0, 2.5])
def test_lml_against_the_loop(kind, trainable, tau):
    hidden, answers = batch(random_trie(), 3)
    head = random_head(**kind, trainable=trainable)
    inputs = [hidden, head.weight_VD] if trainable else [hidden]
    mine = lml(hidden, head, answers.token_R, tau=tau, chunk=5)
    assert_same(mine, loop(hidden, head, answers, tau=tau), inputs)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("block_cost", [0, 10**12])
def test_msl_against_the_loop(kind, trainable, block_cost, monkeypatch):
    """With one union for all, and with as many blocks as the plan allows."""
    costs = dataclasses.replace(costs_of("cpu"), block_cost=block_cost, gather_cost=0)
    for module in (valid_sets, masked):
        monkeypatch.setattr(module, "costs_of", lambda device: costs)
    trie = random_trie()
    hidden, answers = batch(trie)
    head = random_head(**kind, trainable=trainable)
    inputs = [hidden, head.weight_VD] if trainable else [hidden]
    choice = valid_sets.fan_out(trie, answers.node_R) > 1
    blocks = valid_sets.plan(trie, answers.token_R[choice], answers.node_R[choice])
    assert (len(blocks) == 1) == (block_cost > 0)
    mine = msl(hidden, head, answers, trie, tau=1.7)
    assert_same(mine, loop(hidden, head, answers, sets=children_of(trie), tau=1.7), inputs)


@pytest.mark.parametrize("mode", ["per_position", "global"])
def test_alpha_weighs_the_negatives(mode):
    trie = random_trie()
    hidden, answers = batch(trie)
    head = random_head()
    loss = losses.get("msl_alpha")({"mode": mode}, trie, vocabulary=V, avt=3.5)
    mine = loss.per_row(hidden, head, answers)
    alpha = (lambda size: V / size) if mode == "per_position" else (lambda size: V / 3.5)
    assert_same(mine, loop(hidden, head, answers, sets=children_of(trie), alpha=alpha), [hidden])


def test_alpha_of_one_is_msl():
    trie = random_trie()
    hidden, answers = batch(trie)
    ones = torch.ones(len(answers), dtype=torch.float64)
    mine = msl_alpha(hidden, random_head(), answers, trie, alpha_R=ones)
    torch.testing.assert_close(mine, msl(hidden, random_head(), answers, trie))


def test_one_row_by_hand():
    """Valid logits 0 and ln 3, label the second: loss ln(1 + 3) - ln 3 = ln(4 / 3); LML adds e^5."""
    trie = Trie.of([[1, 0], [2, 0]], 0)
    head = Head(torch.tensor([[5.0], [0.0], [math.log(3.0)]], dtype=torch.float64))
    hidden = torch.ones(1, 1, dtype=torch.float64)
    answers = Answers(*(torch.tensor([value]) for value in (2, 0, 0, 1)))
    assert float(msl(hidden, head, answers, trie)) == pytest.approx(math.log(4 / 3))
    whole = math.log(4 + math.exp(5.0)) - math.log(3.0)
    assert float(lml(hidden, head, answers.token_R)) == pytest.approx(whole)


def test_msl_is_at_most_lml_and_single_rows_are_nothing():
    trie = random_trie()
    hidden, answers = batch(trie, 50)
    head = random_head()
    masked, whole = msl(hidden, head, answers, trie), lml(hidden, head, answers.token_R)
    assert (masked <= whole + 1e-12).all()
    single = valid_sets.fan_out(trie, answers.node_R) == 1
    assert 0 < single.sum() < len(answers)
    assert (masked[single] == 0).all()
    (gradient,) = torch.autograd.grad(masked.sum(), hidden)
    assert (gradient[single] == 0).all() and (gradient[~single] != 0).any(1).all()


def test_valid_set_of_the_whole_vocabulary_is_lml():
    trie = Trie.of([[0], *([token, 0] for token in range(1, V))], 0)
    hidden, answers = batch(trie)
    root = answers.take(answers.node_R == 0)
    hidden = hidden[answers.node_R == 0]
    head = random_head(softcap=4.0)
    masked, whole = msl(hidden, head, root, trie), lml(hidden, head, root.token_R)
    torch.testing.assert_close(masked, whole, rtol=1e-12, atol=1e-12)


def test_probabilities_of_the_catalogue_sum_to_one():
    trie = random_trie(3)
    head, table = random_head(softcap=5.0), torch.randn(trie.n_nodes, D, dtype=torch.float64)
    answers = Answers.of(trie, np.arange(trie.n_leaves))
    nll = msl(table[answers.node_R], head, answers, trie)
    per_leaf = torch.zeros(trie.n_leaves, dtype=torch.float64).index_add(0, answers.row_R, nll)
    assert float((-per_leaf).exp().sum()) == pytest.approx(1.0, abs=1e-12)


def test_large_logits_stay_finite():
    trie = random_trie()
    hidden, answers = batch(trie, dtype=torch.float32)
    big = (hidden * 300).detach().requires_grad_()
    for nll in (msl(big, random_head(), answers, trie), lml(big, random_head(), answers.token_R)):
        assert torch.isfinite(nll).all() and nll.max().item() > 100


def test_half_precision_close_to_double():
    trie = random_trie()
    hidden, answers = batch(trie, dtype=torch.bfloat16)
    head = random_head(dtype=torch.bfloat16)
    double = Head(head.weight_VD.double())
    mine = msl(hidden, head, answers, trie)
    assert mine.dtype == torch.float32
    exact = msl(hidden.detach().double(), double, answers, trie)
    torch.testing.assert_close(mine.double(), exact, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(mine.sum(), hidden)
    assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_every_loss_sums_counts_and_drops_rows(name):
    """The sum does not change when rows that do not matter are left out, and None means defaults."""
    trie = random_trie()
    hidden, answers = batch(trie, dtype=torch.float32)
    head = random_head(dtype=torch.float32)
    loss = losses.get(name)(None, trie, vocabulary=V, avt=8.0)
    assert isinstance(loss, Loss) and loss.kind == "token"
    total = loss(hidden, head, answers)
    assert total.dtype == torch.float32 and total.shape == ()
    kept = loss.matters(answers)
    torch.testing.assert_close(loss(hidden[kept], head, answers.take(kept)), total)
    assert loss.needs_all_rows == name.startswith("lml")
    choice = int((valid_sets.fan_out(trie, answers.node_R) > 1).sum())
    assert loss.count(answers) == (len(answers) if loss.needs_all_rows else choice)
    with torch.no_grad():
        torch.testing.assert_close(loss(hidden, head, answers), total.detach())


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_no_rows_give_zero_with_a_graph(name):
    loss = losses.get(name)(None, random_trie(), vocabulary=V, avt=8.0)
    nothing = torch.zeros(0, dtype=torch.int64)
    hidden = torch.zeros(0, D, requires_grad=True)
    total = loss(
        hidden, random_head(dtype=torch.float32), Answers(nothing, nothing, nothing, nothing)
    )
    assert total.item() == 0.0 and total.requires_grad
    total.backward()


def released_dense(logits_RV, token_R, mask_RV, tau):
    """The authors' fixed-tau script: full matrices, mean over all rows, no leading tau."""
    positive_R = torch.log(torch.exp(logits_RV.gather(1, token_R[:, None])[:, 0] / tau))
    masked_RV = torch.where(mask_RV, logits_RV, torch.tensor(float("-inf"), dtype=logits_RV.dtype))
    return -(positive_R - torch.log(torch.exp(masked_RV / tau).sum(-1))).mean()


@pytest.mark.parametrize(("name", "tau"), [("msl", 1.0), ("msl_tau", 3.0)])
def test_released_form_is_the_dense_script(name, tau):
    trie = random_trie()
    hidden, answers = batch(trie)
    head = random_head()
    mask = torch.zeros(len(answers), V, dtype=torch.bool)
    for at, node in enumerate(answers.node_R.tolist()):
        mask[at, children_of(trie)(node)] = True
    dense = released_dense(hidden @ head.weight_VD.T, answers.token_R, mask, tau)
    options = {"form": "released"} | ({"tau": tau} if name == "msl_tau" else {})
    loss = losses.get(name)(options, trie, vocabulary=V, avt=8.0)
    mine = loss(hidden, head, answers) / loss.count(answers)
    assert_same(mine[None], dense[None], [hidden])


def test_corrected_form_has_a_leading_tau_and_counts_rows_with_a_choice():
    trie = random_trie()
    hidden, answers = batch(trie)
    loss = losses.get("msl_tau")({"tau": 4.5}, trie, vocabulary=V, avt=8.0)
    plain = msl(hidden, random_head(), answers, trie, tau=4.5)
    torch.testing.assert_close(loss(hidden, random_head(), answers), 4.5 * plain.sum())
    assert loss.count(answers) == int((plain > 0).sum())


def test_a_label_outside_its_valid_set_is_named():
    trie = random_trie()
    hidden, answers = batch(trie)
    at = int(torch.nonzero(answers.node_R > 0)[2])
    row, place = int(answers.row_R[at]), int((answers.row_R[:at] == answers.row_R[at]).sum())
    token = answers.token_R.clone()
    token[at] = V - 1
    with pytest.raises(
        ValueError, match=rf"sequence {row}, answer position {place}: token {V - 1} "
    ):
        msl(hidden, random_head(), dataclasses.replace(answers, token_R=token), trie)


@pytest.mark.parametrize("name", ["lml", "msl"])
def test_a_loss_that_is_not_finite_stops_with_the_rows(name):
    trie = random_trie()
    hidden, answers = batch(trie)
    broken = hidden.detach().clone()
    at = int(torch.nonzero(answers.node_R == 0)[3])
    broken[at] = float("nan")
    loss = losses.get(name)(None, trie, vocabulary=V, avt=8.0)
    with pytest.raises(ContractError, match=rf"sequences \[{int(answers.row_R[at])}\]"):
        loss(broken, random_head(), answers)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("msl_tau", {"tau": 0.0}, "tau is 0.0"),
        ("msl_tau", {"tau": -1.0}, "tau is -1.0"),
        ("lml_tau", {"tau": float("nan")}, r"tau is \.nan"),
        ("lml_tau", {"tau": float("inf")}, r"tau is \.inf"),
        ("msl", {"form": "paper"}, "corrected, released"),
        ("msl", {"tau": 2.0}, "no key 'tau'"),
        ("msl_alpha", {"mode": "local"}, "per_position, global"),
        ("msl_ats", {"eta": 0.0}, "eta is 0.0"),
        ("msl_ats", {"clamp": [5.0, 1.5]}, "the lower bound comes first"),
        ("msl_ats", {"rate": 0.0}, "rate is 0.0"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message) as fault:
        losses.get(name).complete(options)
    assert isinstance(fault.value, ValueError)


def test_one_title_warns_and_costs_nothing():
    trie = Trie.of([[3, 0]], 0)
    with pytest.warns(UserWarning, match="one title"):
        loss = losses.get("msl")(None, trie, vocabulary=V, avt=1.0)
    hidden, answers = batch(trie, 3)
    assert loss(hidden, random_head(), answers).item() == 0.0
    assert loss.count(answers) == 0
