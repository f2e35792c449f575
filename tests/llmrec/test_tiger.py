"""The encoder-decoder of TIGER: padding, steps of the search, transformers' own search, dropout, refusals."""

import numpy as np
import pytest
import sid_kit
import torch

from bench.errors import ConfigError
from bench.experiment.axes import Axes, check_fit
from bench.experiment.suite import SuiteRow
from bench.method import configure
from bench.registry import losses
from llmrec.decode.cross_tree import CrossTree
from llmrec.decode.device_trie import on_device
from llmrec.decode.exact import Exact
from llmrec.decode.generate import Generate
from llmrec.decode.ground import Ground
from llmrec.decode.rule import Rule
from llmrec.decode.scoring import score_all
from llmrec.generative.tiger import Tiger
from llmrec.preference.setup import _ready
from llmrec.support.layouts import Wanted, layouts
from llmrec.support.probe import support_of
from llmrec.training.packing import Example, all_answers, lay_out, states

SMALL = {"hidden": 32, "layers": 2, "heads": 2, "feed_forward": 48}
HISTORIES = ([3], [30, 12, 5], [7, 8, 9, 10, 11, 12])


@pytest.fixture(scope="module")
def tiger(tmp_path_factory):
    """The method with a random model over the codes of a small catalogue, and the prompts of three users."""
    train = sid_kit.windows()
    made, _ = sid_kit.stage(tmp_path_factory.mktemp("sid"), train, sid_kit.vectors())
    method = Tiger(configure(Tiger, SMALL), loss="lml", decoder="beam")
    method.codes = made.codes
    method.lm = method._bare("cpu", None).eval()
    with torch.no_grad():
        for block in (*method.lm.causal.encoder.block, *method.lm.causal.decoder.block):
            block.layer[0].SelfAttention.q.weight.mul_(4.0)  # so that positions count
    method._index(train.catalogue)
    return method, [method.prompter.prompt(history) for history in HISTORIES]


def rows_of(method, prompts):
    leaf_B = method.trie.leaf_of_item_N[[4, 6, 13]]
    return [Example(prompt, int(leaf)) for prompt, leaf in zip(prompts, leaf_B, strict=True)]


def every_state(method, rows):
    """States that predict every answer token of some rows, trained as one batch."""
    kind = losses.get("lml")
    lml = kind(configure(kind, {}), method.trie, vocabulary=method.lm.vocabulary, avt=1.0)
    return states(method.lm, lay_out(rows, method.trie, lml, pad=method.lm.pad_id))


def test_prompts_are_codes_alone(tiger):
    method, prompts = tiger
    assert prompts[0].ids.tolist() == method.codes.tokens(2)[3].tolist()
    assert method.lm.start not in np.concatenate([prompt.ids for prompt in prompts])


@torch.no_grad()
def test_padding_changes_no_state_and_no_score(tiger):
    method, prompts = tiger
    rows = rows_of(method, prompts)
    alone_RD = torch.cat([every_state(method, [row]) for row in rows])
    torch.testing.assert_close(every_state(method, rows), alone_RD, atol=1e-5, rtol=1e-5)
    alone = [Exact()(method.lm, [prompt], method.trie, 10) for prompt in prompts]
    found = Exact()(method.lm, prompts, method.trie, 10)
    for query, one in enumerate(alone):
        np.testing.assert_array_equal(found.leaf_QK[query], one.leaf_QK[0])
        np.testing.assert_allclose(found.score_QK[query], one.score_QK[0], atol=1e-5)


@torch.no_grad()
def test_step_by_step_is_teacher_forcing(tiger):
    """Each answer's nodes one by one, beside a node of another answer that must not be seen."""
    method, prompts = tiger
    rows = rows_of(method, prompts)
    trie = on_device(method.trie, Rule(space="full"), torch.device("cpu"))
    tree = CrossTree(method.lm, prompts, trie)
    path = method.trie.path
    slot_BW, found = torch.zeros(3, 2, dtype=torch.int64), []
    for place in range(len(path[0])):
        node_BW = torch.tensor(
            [[path[row.leaf][place], path[(row.leaf + 9) % len(path)][place]] for row in rows]
        )
        tokens_B = trie.segment_M[node_BW].sum(1).numpy()
        hidden_BWD, slot_BW = tree.extend(node_BW, slot_BW, tokens_B)
        found.append(hidden_BWD[:, 0])
    forced_RD = every_state(method, rows)
    row_R = all_answers(rows, method.trie).row_R
    for b in range(3):
        stepped_TD = torch.stack(found)[:, b]
        torch.testing.assert_close(stepped_TD, forced_RD[row_R == b], atol=1e-5, rtol=1e-5)


def test_the_search_of_transformers_finds_the_same(tiger):
    method, prompts = tiger
    wide = method.trie.n_leaves
    options = {"beams": wide, "length_penalty": 0.0, "renormalize": True}
    found = Generate(options)(method.lm, prompts, method.trie, wide)
    own_QL = score_all(method.lm, prompts, method.trie)
    np.testing.assert_array_equal(found.leaf_QK, np.argsort(-own_QL, axis=1))
    np.testing.assert_allclose(found.score_QK, -np.sort(-own_QL, axis=1), atol=1e-4)


def test_order_of_the_history_counts(tiger):
    method, prompts = tiger
    turned = method.prompter.prompt(HISTORIES[1][::-1])
    one_L, other_L = score_all(method.lm, [prompts[1], turned], method.trie)
    assert np.abs(one_L - other_L).max() > 1e-2


@torch.no_grad()
def test_dropout_draws_in_training_alone_and_can_be_switched_off(tiger):
    method = Tiger(configure(Tiger, {**SMALL, "dropout": 0.5}), loss="s_dpo", decoder="beam")
    method.codes, rows = tiger[0].codes, rows_of(*tiger)
    method.lm = method._bare("cpu", None).eval()
    method._index(sid_kit.windows().catalogue)
    calm_RD = every_state(method, rows)
    assert torch.equal(every_state(method, rows), calm_RD)
    method.lm.train()
    assert not torch.allclose(every_state(method, rows), calm_RD, atol=1e-2)
    _ready(method.lm, configure(losses.get("s_dpo"), {}))
    torch.testing.assert_close(every_state(method, rows), calm_RD)


def test_what_cannot_be_is_replaced_or_refused(tiger):
    found = support_of(tiger[0].lm)
    chosen = layouts(found, Wanted("preference", packed=64), Exact())
    assert not (chosen.share_opening or chosen.together or chosen.packed)
    assert "rows are padded, as its rows end to end does not run" in chosen.facts["layouts"]
    with pytest.raises(ConfigError, match="cannot be decoded by ground: its body does not run"):
        layouts(found, Wanted("tokens"), Ground())
    with pytest.raises(ConfigError, match="not decoded by 'ground': it compares texts by"):
        check_fit(SuiteRow(method="tiger"), Axes("lml", "ground"))


def test_a_user_without_new_tokens_at_a_deep_node_disturbs_nobody(tiger):
    method, prompts = tiger
    trie = on_device(method.trie, Rule(), method.lm.device)
    deep = int(trie.depth_M.argmax())
    assert trie.depth_M[deep] > trie.places and not trie.asked_M[deep]
    asked = int(torch.nonzero((trie.depth_M == 1) & (trie.asked_M == 1))[0, 0])
    found = []
    for nodes, users in (([[asked]], prompts[:1]), ([[asked], [deep]], prompts[:2])):
        tree = CrossTree(method.lm, users, trie)
        tokens_B = np.array([1, 0])[: len(users)]
        node_BW = torch.tensor(nodes)
        found.append(tree.extend(node_BW, torch.zeros_like(node_BW), tokens_B)[0][0])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
