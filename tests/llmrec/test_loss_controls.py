"""The controls of masked losses: against plain formulas, and at their neutral values equal to MSL."""

import numpy as np
import pytest
import torch
from test_losses import V, batch, children_of, logit, random_head, random_trie

from bench.registry import losses
from llmrec.losses.msl_focal import focal
from llmrec.losses.msl_prior import MSLPriorConfig, prior_weight
from llmrec.losses.msl_smooth import shares_of_edges

NEUTRAL = [
    ("bear", {"lam": 0.0}),
    ("msl_focal", {"gamma": 0.0}),
    ("msl_smooth", {"smoothing": 0.0}),
    ("msl_prior", {"power": 0.0}),
    ("msl_prior", {"weighting": "balanced", "beta": 0.0}),
]


def made(name, trie, **options):
    return losses.get(name)({"tau": 2.0, **options}, trie, vocabulary=V, avt=3.5)


def stepped(loss, trie):
    """The states after one clipped step on a fixed batch."""
    hidden, answers = batch(trie)
    loss.observe_targets(np.array([0, 0, 0, 1, 1, 2, *answers.leaf_R.tolist()]))
    optimizer = torch.optim.SGD([hidden], lr=1.0)  # Adam's first step would hide the scale
    (loss(hidden, random_head(), answers) / loss.count(answers)).backward()
    hidden.grad *= loss.rescale()
    torch.nn.utils.clip_grad_norm_([hidden], 0.05)
    optimizer.step()
    return hidden.detach()


@pytest.mark.parametrize(("name", "options"), NEUTRAL, ids=lambda value: str(value))
def test_the_neutral_value_is_msl_after_an_optimizer_step(name, options):
    trie = random_trie()
    plain = stepped(made("msl_tau", trie), trie)
    torch.testing.assert_close(
        stepped(made(name, trie, **options), trie), plain, rtol=1e-12, atol=1e-12
    )
    (key, *_) = reversed(options)
    other = made(name, trie, **{**options, key: 0.5})
    assert (stepped(other, trie) - plain).abs().max() > 1e-5


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("detach", [False, True])
def test_focal_against_its_formula_and_its_slope(gamma, detach):
    p = torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
    u = p.log().requires_grad_()
    value = focal(-u, gamma=gamma, detach=detach)
    torch.testing.assert_close(value, (1 - p) ** gamma * -p.log())
    (slope,) = torch.autograd.grad(value.sum(), u)
    wanted = (1 - p) ** gamma
    if not detach:
        wanted = wanted + gamma * p * (1 - p) ** (gamma - 1) * -p.log()
    torch.testing.assert_close(-slope, wanted)


def test_focal_is_finite_where_the_label_is_certain():
    nll = torch.tensor([0.0, 1e-45, 300.0], requires_grad=True)
    value = focal(nll, gamma=0.5)
    (gradient,) = torch.autograd.grad(value.sum(), nll)
    assert torch.isfinite(gradient).all() and value[0] == 0 and value[2] == 300


def smoothed(hidden, head, answers, trie, e, share):
    rows = []
    for at in range(len(answers)):
        node, label = int(answers.node_R[at]), int(answers.token_R[at])
        tokens = children_of(trie)(node)
        scaled = torch.stack([logit(hidden[at], head, z) / 2.0 for z in tokens])
        u = scaled - scaled.logsumexp(0)
        spread = sum(share(node, z) * u[i] for i, z in enumerate(tokens))
        rows.append(2.0 * (-(1 - e) * u[tokens.index(label)] - e * spread))
    return torch.stack(rows)


def titles_share(trie):
    """Of the titles that begin with the tokens to a node, the share that goes on with one token."""
    answers = [tuple(trie.answer[leaf].tolist()) for leaf in range(trie.n_leaves)]
    prefix = {
        int(n): a[:i] for leaf, a in enumerate(answers) for i, n in enumerate(trie.path[leaf])
    }

    def share(node, token):
        start = prefix[node]
        below = [a for a in answers if a[: len(start)] == start]
        return sum(a[len(start)] == token for a in below) / len(below)

    return share


@pytest.mark.parametrize("over", ["uniform", "titles"])
@pytest.mark.parametrize("trainable", [False, True])
def test_smoothing_against_the_loop(over, trainable):
    trie = random_trie()
    hidden, answers = batch(trie, 8)
    head = random_head(softcap=3.0, trainable=trainable)
    inputs = [hidden, head.weight_VD] if trainable else [hidden]
    even = lambda node, token: 1 / len(children_of(trie)(node))  # noqa: E731
    share = even if over == "uniform" else titles_share(trie)
    mine = made("msl_smooth", trie, smoothing=0.3, over=over).per_row(hidden, head, answers)
    theirs = smoothed(hidden, head, answers, trie, 0.3, share)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    for one, other in zip(
        *(torch.autograd.grad(loss.sum(), inputs) for loss in (mine, theirs)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_all_of_the_target_spread_evenly_is_least_for_equal_logits():
    trie = random_trie()
    hidden, answers = batch(trie)
    loss = made("msl_smooth", trie, smoothing=1.0, tau=1.0)
    nll = loss.per_row(torch.zeros_like(hidden).requires_grad_(), random_head(), answers)
    size = torch.from_numpy(trie.fan_out_M)[answers.node_R]
    torch.testing.assert_close(nll, size.double().log())
    assert (loss.per_row(hidden, random_head(), answers) >= nll - 1e-12).all()
    for over in ("uniform", "titles"):
        sums = np.add.reduceat(shares_of_edges(trie, over), trie.indptr_M[:-1][trie.fan_out_M > 0])
        np.testing.assert_allclose(sums, 1.0)


def test_rare_titles_weigh_more_and_the_mean_over_rows_is_one():
    """Two titles with 4 rows and 1 row: raw weights 1/2 and 1, mean (4/2 + 1) / 5 = 3/5."""
    rows_C = np.array([4, 1, 0])
    weight = prior_weight(rows_C, MSLPriorConfig(power=0.5))
    np.testing.assert_allclose(weight[:2], [0.5 / 0.6, 1 / 0.6])
    half = prior_weight(rows_C, MSLPriorConfig(weighting="balanced", beta=0.5))
    np.testing.assert_allclose(half[0] / half[1], 0.5 / (1 - 0.5**4))
    assert float(half @ rows_C) == pytest.approx(rows_C.sum())
    np.testing.assert_allclose(prior_weight(np.full(3, 7), MSLPriorConfig(power=1.0)), 1.0)
    assert prior_weight(np.array([1000, 1]), MSLPriorConfig(power=1.0))[1] == 10.0


def test_a_row_is_weighted_by_its_title():
    trie = random_trie()
    hidden, answers = batch(trie)
    loss, plain = made("msl_prior", trie), made("msl_tau", trie)
    leaf_W = np.repeat(np.arange(trie.n_leaves), np.arange(trie.n_leaves) % 5 + 1)
    loss.observe_targets(leaf_W)
    weight = prior_weight(np.bincount(leaf_W), loss.config)
    kept = torch.arange(len(answers)) % 3 > 0  # rows of a sequence need not all be there
    mine = loss.per_row(hidden[kept], random_head(), answers.take(kept))
    rows = plain.per_row(hidden, random_head(), answers)
    title_R = torch.from_numpy(weight[answers.leaf_R.numpy()])
    torch.testing.assert_close(mine, (title_R * rows)[kept])
    assert loss.facts() == pytest.approx(
        {"prior_weight": float(weight[leaf_W].mean()), "prior_capped": 0.0}
    )
