"""Adaptive temperature on logits that are planted: the head is the identity, so hidden = logits."""

import math

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from bench.errors import ConfigError
from bench.registry import losses
from llmrec.lm.head import Head
from llmrec.losses import Answers
from llmrec.losses.msl_ats import MSLATS, adaptive_tau
from llmrec.trie import Trie

M = 30  # valid tokens at the root
V = M + 1
EYE = Head(torch.eye(V, dtype=torch.float64))


def wide_trie() -> Trie:
    """Titles of one token, some of two: the root has M valid tokens, node of token 1 has four."""
    return Trie.of(
        [[token, 0] for token in range(1, V)] + [[1, token, 0] for token in (3, 4, 5)], 0
    )


def planted(n: int = 40, seed: int = 0, offset: float = 0.0):
    """Rows with Gaussian logits, label far above the mean; ``offset`` shifts each row by itself."""
    trie = wide_trie()
    rng = np.random.default_rng(seed)
    answers = Answers.of(trie, rng.integers(0, trie.n_leaves, n))
    logits = rng.normal(0.0, 2.0, (len(answers), V))
    logits[np.arange(len(answers)), answers.token_R.numpy()] += rng.uniform(6, 9, len(answers))
    logits += offset * rng.normal(size=(len(answers), 1))
    return trie, torch.tensor(logits, requires_grad=True), answers


def ats(trie: Trie, *, avt: float = 20.0, **options) -> MSLATS:
    return losses.get("msl_ats")(options, trie, vocabulary=V, avt=avt)


def row_statistics(trie, logits, answers):
    gaps, variances = [], []
    for row, node, token in zip(
        logits.detach().numpy(), answers.node_R.tolist(), answers.token_R.tolist(), strict=True
    ):
        valid = row[trie.children(node)[0]]
        if len(valid) > 1:
            gaps.append(row[token] - valid.mean())
            variances.append(valid.var())
    return np.mean(gaps), np.mean(variances)


def test_published_example():
    """d = 12, s2 = 4, m = 54.38: C = ln 13.595 = 2.6097, root (12 + sqrt(144 - 20.88)) / 5.219 = 4.43."""
    assert adaptive_tau(12.0, 4.0, 54.38, 0.25) == pytest.approx(4.425, abs=0.005)


@pytest.mark.parametrize(("gap", "variance", "eta"), [(12.0, 4.0, 0.25), (9.0, 1.0, 0.1)])
def test_target_share_is_eta_on_gaussian_logits(gap, variance, eta):
    m = 400_000
    tau = adaptive_tau(gap, variance, m, eta)
    logits = np.random.default_rng(0).normal(0.0, math.sqrt(variance), m)
    share = math.exp(gap / tau) / np.exp(logits / tau).sum()
    assert share == pytest.approx(eta, rel=0.02)


def test_negative_discriminant_counts_as_zero():
    assert adaptive_tau(1.0, 100.0, 40.0, 0.25) == pytest.approx(0.5 / math.log(10.0))


def test_corrected_step_uses_the_statistics_within_rows():
    trie, logits, answers = planted()
    loss = ats(trie, clamp=(0.1, 50.0))
    loss(logits, EYE, answers)
    assert loss.tau == 1.5  # the temperature moves with the optimizer, not with the forward pass
    loss.step()
    wanted = adaptive_tau(*row_statistics(trie, logits, answers), 20.0, 0.25)
    assert loss.tau == pytest.approx(0.95 * 1.5 + 0.05 * wanted, rel=1e-12)
    assert loss.facts() == {
        "tau": loss.tau,
        "tau_unclamped": pytest.approx(wanted, rel=1e-12),
        "ats_m": 20.0,
        "ats_eta_above_chance": 1.0,
        "ats_updates": 1,
        "ats_clamped": 0.0,
    }


def test_offsets_of_rows_do_not_matter_to_the_corrected_form_only():
    moved = {}
    for form in ("corrected", "released"):
        for offset in (0.0, 5.0):
            trie, logits, answers = planted(offset=offset)
            loss = ats(trie, form=form, clamp=(0.1, 50.0))
            loss(logits, EYE, answers)
            loss.step()
            moved[form, offset] = loss.tau
    assert moved["corrected", 0.0] == pytest.approx(moved["corrected", 5.0], rel=1e-12)
    assert abs(moved["released", 0.0] - moved["released", 5.0]) > 1e-3


@pytest.mark.parametrize("form", ["corrected", "released"])
def test_micro_batches_add_up_to_the_batch_in_any_order(form):
    trie, logits, answers = planted(offset=2.0)
    cuts = (slice(0, 7), slice(7, 50), slice(50, None))
    taus, sums = [], []
    for rows_of in ([slice(None)], cuts, cuts[::-1]):
        loss, total = ats(trie, form=form, clamp=(0.1, 50.0)), 0.0
        for rows in rows_of:
            part = answers.take(rows)
            total += float(loss(logits[rows], EYE, part).detach())
        assert loss.tau == 1.5 and loss.updates == 0
        loss.step()
        taus.append(loss.tau)
        sums.append(total)
    assert taus[0] != 1.5
    assert taus == pytest.approx([taus[0]] * 3, rel=1e-12)
    assert sums == pytest.approx([sums[0]] * 3, rel=1e-12)


def test_only_training_moves_the_temperature():
    trie, logits, answers = planted()
    for form in ("corrected", "released"):
        loss = ats(trie, form=form)
        with torch.no_grad():
            loss(logits, EYE, answers)
        loss.train(False)
        loss(logits, EYE, answers)
        loss.step()
        assert loss.tau == 1.5 and loss.updates == 0


def test_clamp_is_counted():
    trie, logits, answers = planted()
    loss = ats(trie, avt=4.5)  # m * eta hardly above 1: the formula wants a huge temperature
    for _ in range(2):
        loss(logits, EYE, answers)
        loss.step()
    assert loss.tau == pytest.approx(1.5 * 0.95**2 + 5.0 * (1 - 0.95**2))
    assert loss.facts()["ats_clamped"] == 1.0


def test_target_below_the_mean_gives_the_lowest_temperature():
    trie, logits, answers = planted()
    loss = ats(trie, start=3.0)
    loss(-logits, EYE, answers)
    loss.step()
    assert loss.tau == pytest.approx(0.95 * 3.0 + 0.05 * 1.5)


def released_reference(trie, logits, answers, tau, alpha=0.05, eta=0.25, clamp=(1.5, 5.0)):
    """The authors' ATS script on dense matrices with boolean masks, exp and log.

    Returns the next temperature, and the loss under the present one (the authors take the next).
    """
    mask = torch.zeros(logits.shape, dtype=torch.bool)
    for at, node in enumerate(answers.node_R.tolist()):
        mask[at, trie.children(node)[0].tolist()] = True
    size = mask.sum(1)
    m = int(trie.fan_out_M[0])
    first = size == m
    label = logits.gather(1, answers.token_R[:, None])[:, 0]
    pooled = logits.detach()[first][mask[first]]
    gap = label.detach()[first].mean() - pooled.mean()
    bound = math.log(m * eta)
    root = torch.sqrt((gap**2 - 2 * bound * pooled.var()).clamp(min=0))
    new = float(((gap + root) / (2 * bound)).clamp(*clamp))
    masked = logits.masked_fill(~mask, float("-inf"))
    nll = torch.log(torch.exp(masked / tau).sum(1)) - torch.log(torch.exp(label / tau))
    return (1 - alpha) * tau + alpha * new, tau * nll[size > 1].mean()


def test_released_form_is_the_dense_script():
    """Loss, then the temperature of the next step, for three steps in a row."""
    trie, _, _ = planted()
    loss, tau = ats(trie, form="released"), 1.5
    for seed in range(3):
        _, logits, answers = planted(seed=seed, offset=1.0)
        tau, wanted = released_reference(trie, logits, answers, tau)
        mine = loss(logits, EYE, answers) / loss.count(answers)
        loss.step()
        assert loss.tau == pytest.approx(tau, rel=1e-12)
        torch.testing.assert_close(mine, wanted, rtol=1e-12, atol=0)
        one, other = (torch.autograd.grad(value, logits)[0] for value in (mine, wanted))
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)
    assert loss.updates == 3


def test_corrected_loss_and_gradient():
    trie, logits, answers = planted()
    loss = ats(trie, start=2.5)
    plain = losses.get("msl_tau")({"tau": 2.5}, trie, vocabulary=V, avt=20.0)
    mine, wanted = loss(logits, EYE, answers), plain(logits, EYE, answers)
    torch.testing.assert_close(mine, wanted)
    one, other = (torch.autograd.grad(value, logits)[0] for value in (mine, wanted))
    torch.testing.assert_close(one, other)


def test_a_head_that_learns_gives_the_same_statistics():
    trie, logits, answers = planted()
    learning = Head(torch.eye(V, dtype=torch.float64, requires_grad=True))
    taus = []
    for head in (EYE, learning):
        loss = ats(trie, clamp=(0.1, 50.0))
        loss(logits, head, answers)
        loss.step()
        taus.append(loss.tau)
    assert taus[0] == pytest.approx(taus[1], rel=1e-12)


def test_resuming_gives_the_same_temperature():
    trie, logits, answers = planted()
    loss = ats(trie)
    loss(logits, EYE, answers)
    loss.step()
    other = ats(trie)
    other.load_state_dict(loss.state_dict())
    assert other.tau == loss.tau != 1.5
    assert other.facts() == loss.facts()


def test_m_from_three_places():
    trie = wide_trie()
    assert ats(trie, m="avt", avt=12.5).m == 12.5
    assert ats(trie, m="first").m == M
    assert ats(trie, form="released", m="avt").m == M
    # every item has the root; the four titles that begin with token 1 have a second choice of 4
    assert ats(trie, m="branching").m == pytest.approx((33 * M + 4 * 4) / 37)
    twice = Trie.of([*(answer.tolist() for answer in trie.answer), trie.answer[0].tolist()], 0)
    assert ats(twice, m="branching").m == ats(trie, m="branching").m  # by title, not by item


@pytest.mark.parametrize("avt", [1.5, 4.0])
def test_where_chance_alone_gives_eta_the_limit_of_the_formula_is_taken(avt):
    """m * eta <= 1: any temperature does, and just above 1 the formula wants an ever larger one."""
    trie, logits, answers = planted()
    loss, nearly = ats(trie, avt=avt), ats(trie, avt=4.0001)
    for one in (loss, nearly):
        one(logits, EYE, answers)
        one.step()
    assert loss.tau == pytest.approx(0.95 * 1.5 + 0.05 * 5.0)
    assert loss.tau == nearly.tau
    facts = loss.facts()
    assert (facts["ats_eta_above_chance"], facts["ats_clamped"]) == (0.0, 1.0)
    assert nearly.facts()["ats_eta_above_chance"] == 1.0
    assert math.isfinite(facts["tau_unclamped"]), "rows and checkpoints hold numbers"
    below = ats(trie, avt=avt, start=3.0)
    below(-logits, EYE, answers)
    below.step()
    assert below.tau == pytest.approx(0.95 * 3.0 + 0.05 * 1.5)


def test_released_form_refuses_a_root_without_a_choice():
    """With tokenizers that keep the quote apart every answer starts alike (m = 1)."""
    trie = Trie.of([[7, 1, 0], [7, 2, 0]], 0)
    with pytest.raises(ConfigError, match="all answers begin alike; use form: corrected"):
        ats(trie, form="released")


def test_rows_without_a_choice_leave_the_temperature_alone():
    trie, logits, answers = planted()
    single = torch.from_numpy(trie.fan_out_M[answers.node_R.numpy()] == 1)
    loss = ats(trie)
    assert float(loss(logits[single], EYE, answers.take(single)).detach()) == 0.0
    loss.step()
    assert (loss.tau, loss.unobserved) == (1.5, 1)


def _rank(rank: int, store: str, result) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    trie, logits, answers = planted()
    rows = slice(rank * 25, (rank + 1) * 25 if rank == 0 else None)
    loss = ats(trie, clamp=(0.1, 50.0))
    part = answers.take(rows)
    loss(logits[rows], EYE, part)
    loss.step()
    result[rank] = loss.tau
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_move_as_one(tmp_path):
    with multiprocessing.get_context("spawn").Manager() as manager:
        result = manager.dict()
        multiprocessing.spawn(_rank, args=(str(tmp_path / "store"), result), nprocs=2)
        taus = dict(result)
    trie, logits, answers = planted()
    loss = ats(trie, clamp=(0.1, 50.0))
    loss(logits, EYE, answers)
    loss.step()
    assert taus[0] == taus[1] == pytest.approx(loss.tau, rel=1e-12)
