"""HSTU's block against torch's own attention, and what a state may and may not depend on."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from baselines._hstu import NORM_EPS, Block
from baselines.losses.base import Trained
from baselines.losses.ce_all import CEAll
from baselines.losses.sampled import Sampled
from baselines.training import columns
from bench.errors import ConfigError
from bench.method import configure
from bench.registry import methods
from bench.types import Ragged

ITEMS = torch.tensor([[5, 9, 2, 7, 3, 1]])


def model_of(folder, name="hstu", **config):
    """A module with random weights in evaluation mode."""
    torch.manual_seed(0)
    method = methods.get(name)(config)
    method.build(columns(Ragged.of([]), np.zeros(0, int), method.width), 12, folder, "cpu")
    for block in getattr(method.model, "blocks", ()):
        torch.nn.init.normal_(block.into)
        torch.nn.init.normal_(block.position)
    return method.model.eval()


def softmax_of(block, query, key):
    """Attention of a block with the softmax in place of SiLU / n."""
    score = query @ key.transpose(-1, -2) + block.bias(query.shape[2])
    future = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).triu(1)
    return score.masked_fill(future, -torch.inf).softmax(-1)


def test_with_a_softmax_and_without_gate_and_norms_it_is_attention(monkeypatch):
    block = Block(8, 6, 2, 10, 0.0).double().eval()
    torch.nn.init.normal_(block.into)
    torch.nn.init.normal_(block.position)
    hidden_BLD = torch.randn(3, 5, 8, dtype=torch.float64)
    monkeypatch.setattr(Block, "weights", softmax_of)
    # norms and SiLU that change nothing, and a gate of 1
    monkeypatch.setattr(F, "layer_norm", lambda x, *_, **__: x)
    monkeypatch.setattr(
        F, "silu", lambda x: torch.cat([torch.ones_like(x[..., :6]), x[..., 6:]], -1)
    )
    value, query, key = (
        part.unflatten(-1, (2, 3)).transpose(1, 2)
        for part in (hidden_BLD @ block.into).split(6, -1)[1:]
    )
    future = torch.ones(5, 5, dtype=torch.bool).triu(1)
    mask = block.bias(5).masked_fill(future, -math.inf)
    read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
    expected = hidden_BLD + block.out(read.transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(hidden_BLD), expected, atol=1e-6, rtol=1e-6)


def test_a_block_is_what_its_formula_says():
    block = Block(8, 6, 2, 10, 0.0).double().eval()
    torch.nn.init.normal_(block.into)
    torch.nn.init.normal_(block.position)
    hidden_LD = torch.randn(4, 8, dtype=torch.float64)

    def norm(x_D):
        return (x_D - x_D.mean()) / (x_D.var(unbiased=False) + NORM_EPS).sqrt()

    def silu(x):
        return x / (1 + torch.exp(-x))

    mixed = [silu(norm(x_D) @ block.into) for x_D in hidden_LD]
    expected = []
    for i in range(4):
        read = torch.zeros(6, dtype=torch.float64)
        for head in (slice(0, 3), slice(3, 6)):
            for j in range(i + 1):
                value, query, key = mixed[j][6:12], mixed[i][12:18], mixed[j][18:24]
                score = query[head] @ key[head] + block.position[i - j + 9]
                read[head] += silu(score) / 10 * value[head]
        expected.append(hidden_LD[i] + block.out(mixed[i][:6] * norm(read)))
    torch.testing.assert_close(block(hidden_LD[None])[0], torch.stack(expected))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_state_reads_no_later_item_and_no_padding(tmp_path, similarity):
    model = model_of(tmp_path, similarity=similarity).double()
    changed = ITEMS.clone()
    changed[0, 3] = 11
    longer = F.pad(ITEMS, (0, 4))
    with torch.no_grad():
        state_BHD = model.states(ITEMS)
        assert torch.equal(model.states(changed)[:, :3], state_BHD[:, :3])
        assert not torch.equal(model.states(changed)[:, 3:], state_BHD[:, 3:])
        torch.testing.assert_close(model.states(longer)[:, :6], state_BHD, atol=1e-6, rtol=1e-6)
        last_BD = model.encode(longer, torch.tensor([6]))
        torch.testing.assert_close(last_BD, state_BHD[:, 5], atol=1e-6, rtol=1e-6)


def test_the_order_of_earlier_items_is_known_by_positions_alone(tmp_path):
    model = model_of(tmp_path, n_layers=1).double()
    turned = ITEMS[:, [2, 0, 4, 1, 3, 5]]
    weight = model.blocks[0].position.data.clone()
    with torch.no_grad():
        model.position_embedding.weight.zero_()
        by_distance = model.states(ITEMS)[:, -1] - model.states(turned)[:, -1]
        model.blocks[0].position.zero_()
        torch.testing.assert_close(
            model.states(turned)[:, -1], model.states(ITEMS)[:, -1], atol=1e-6, rtol=1e-6
        )
        model.blocks[0].position.copy_(weight)
    assert by_distance.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["hstu", "sasrec"])
def test_the_full_softmax_is_the_sampled_one_with_every_item(tmp_path, name):
    model = model_of(tmp_path, name, similarity="cosine")
    with torch.no_grad():
        state_MD = model.states(ITEMS)[0]
        target_M = torch.tensor([9, 2, 7, 3, 1, 4])
        whole = CEAll()(Trained(state_MD, target_M, model))
        drawn = Sampled()(Trained(state_MD, target_M, model, torch.arange(1, 13)))
    torch.testing.assert_close(drawn, whole)


@pytest.mark.parametrize("name", ["hstu", "sasrec"])
def test_the_cosine_is_one_over_tau_at_most(tmp_path, name):
    model = model_of(tmp_path, name, similarity="cosine", tau=0.1)
    with torch.no_grad():
        score_BN = model.scores(ITEMS, torch.tensor([6]))[:, 1:]
        state = F.normalize(model.encode(ITEMS, torch.tensor([6])), dim=-1)
        item_ND = F.normalize(model.item_embedding.weight[1:], dim=-1)
    torch.testing.assert_close(score_BN, state @ item_ND.T / 0.1)
    assert score_BN.abs().max() <= 10 + 1e-4


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"hidden_size": 63}, "hidden_size 63 is not a multiple of n_heads 2"),
        ({"inner_size": 63}, "inner_size 63 is not a multiple of n_heads 2"),
        ({"tau": 0.0}, "tau"),
    ],
    ids=str,
)
def test_bad_options(bad, words):
    with pytest.raises(ConfigError, match=words):
        configure(methods.get("hstu"), bad)
