"""TIGER and its decoder alone: their lists against teacher forcing, their trie against the losses' masks."""

import numpy as np
import pytest
import sid_kit
import torch

from bench.cell import Run
from bench.errors import ArtefactError
from bench.method import configure, keep
from bench.registry import decoders
from llmrec.generative._codes_alone import CodePrompter
from llmrec.generative.tiger import Tiger
from llmrec.generative.tiger_dec import TigerDec
from llmrec.sid.vocabulary import CodeTokenizer
from llmrec.training.packing import Example, all_answers

SMALL = {"hidden": 32, "layers": 2, "heads": 2, "feed_forward": 48, "epochs": 30, "batch": 20}
FAST = {**SMALL, "scratch_lr": 1e-2, "valid_rows": 0, "history": 2}
QUICK = {**FAST, "layers": 1, "epochs": 16, "scratch_lr": 2e-2, "dropout": 0.0}


@pytest.fixture(
    scope="module", params=[(TigerDec, FAST), (Tiger, QUICK)], ids=["tiger_dec", "tiger"]
)
def learnt(request, tmp_path_factory):
    """A method fitted on the toy, its run and its training rows."""
    kind, options = request.param
    folder, train = tmp_path_factory.mktemp("tiger"), sid_kit.windows()
    made, _ = sid_kit.stage(folder, train, sid_kit.vectors())
    keep(made, folder / "sid")
    values = kind.complete(configure(kind, options), loss="msl", decoder="exact")
    method = kind(values, loss="msl", decoder="exact")
    run = Run(seed=1, device="cpu", folder=folder, inputs={"sid": folder / "sid"})
    method.fit(train, sid_kit.exam(train), run)
    return method, run, train


def leaves_by(method, prompts, name, **options):
    kind = decoders.get(name)
    decoder = kind(configure(kind, options))
    return decoder(method.lm, prompts, method.trie, method.trie.n_leaves)


@torch.no_grad()
def own_scores(method, prompts):
    """Every answer behind every prompt on its own, by the model's own forward pass, [Q, leaves]."""
    trie, score_QL = method.trie, np.zeros((len(prompts), method.trie.n_leaves))
    for query, prompt in enumerate(prompts):
        for leaf in range(trie.n_leaves):
            logits_LV = method.lm.own_logits(prompt.ids, trie.answer[leaf][:-1])
            for place, token in enumerate(trie.answer[leaf]):
                choice = trie.children(trie.path[leaf][place])[0].astype(np.int64)
                rivals = logits_LV[place, choice].logsumexp(0)
                score_QL[query, leaf] += float(logits_LV[place, int(token)] - rivals)
    return score_QL


def test_it_learns_who_follows_whom(learnt):
    method, run, train = learnt
    losses = run.facts["loss_by_epoch"]
    assert losses[-1] < 0.5 * losses[0]
    exam = sid_kit.exam(train)
    ranking = method.recommend(exam.queries, 5)
    hit = (ranking.item_QK == exam.target_Q[:, None]).any(1)
    assert hit.mean() > 0.5 and ranking.certified_Q.all()
    assert run.facts["sid"]["titles"] == method.trie.n_leaves


def test_searches_give_the_order_of_teacher_forced_sums(learnt):
    method = learnt[0]
    prompts = [method.prompter.prompt(history) for history in ([3, 4], [30, 12, 5])]
    score_QL = own_scores(method, prompts)
    wide = method.trie.n_leaves
    for found in (
        leaves_by(method, prompts, "exact"),
        leaves_by(method, prompts, "beam", beams=wide),
    ):
        np.testing.assert_array_equal(found.leaf_QK, np.argsort(-score_QL, axis=1))
        np.testing.assert_allclose(found.score_QK, -np.sort(-score_QL, axis=1), atol=1e-5)


def test_renumbered_codes_give_the_same_lists(learnt):
    """Codes of each level under new numbers, and the rows of the model with them."""
    method, _, train = learnt
    was = method.recommend(sid_kit.exam(train).queries, 10)
    codes, chance = method.codes, np.random.default_rng(0)
    order = [chance.permutation(size) for size in codes.sizes]
    moved_NL = np.stack([new[codes.code_NL[:, at]] for at, new in enumerate(order)], 1)
    moved_NL[0] = -1
    twin = type(method)(method.config, loss="msl", decoder="exact")
    twin.codes = type(codes)(moved_NL.astype(np.int32), codes.sizes, codes.titles)
    twin.lm = twin._bare("cpu", None)
    twin.lm.load_state_dict(method.lm.state_dict())
    starts = np.cumsum([twin.first, *codes.sizes[:-1]])
    with torch.no_grad():
        for start, new in zip(starts, order, strict=True):
            old_KD = method.lm.causal.get_input_embeddings().weight[start : start + len(new)]
            twin.lm.causal.get_input_embeddings().weight[start + torch.from_numpy(new)] = old_KD
    now = twin.recommend(sid_kit.exam(train).queries, 10)
    np.testing.assert_array_equal(now.item_QK, was.item_QK)


def test_the_masks_of_the_losses_are_those_of_the_trie(learnt):
    method, run, train = learnt
    trie = method.trie
    prompt = method.prompter.prompt([1])
    rows = [Example(prompt, int(leaf)) for leaf in trie.leaf_of_item_N[train.target_W]]
    node_R = all_answers(rows, trie).node_R.numpy()
    valid = [len(trie.children(int(node))[0]) for node in node_R]
    assert np.mean(valid) == pytest.approx(trie.avt(train.target_W)) == run.facts["avt"]


def test_prompts_are_codes_of_the_last_items():
    token_NL = np.arange(12).reshape(4, 3) + 2
    prompter = CodePrompter(token_NL, start=1, cutoff=11)  # room for two items and an answer of 4
    prompt = prompter.prompt([1, 2, 3])
    assert prompt.ids.tolist() == [1, 8, 9, 10, 11, 12, 13] and prompt.dropped == 1
    assert prompter.prompt([2]).ids.tolist() == [1, 8, 9, 10]


def test_names_of_codes_can_be_read_back(learnt):
    tokenizer = CodeTokenizer(learnt[0].codes)
    text = tokenizer.decode([2, 9, 0])  # 6 codes at level a, which begin at 2
    assert text == "<a0><b1></s>" and tokenizer(text)["input_ids"] == [2, 9]
    assert tokenizer(["a", "<z9>"])["input_ids"] == [[], []]


def test_a_saved_model_refuses_other_titles(learnt, tmp_path):
    method, _, train = learnt
    back = sid_kit.kept_and_read(method, tmp_path / "kept", sid_kit.exam(train).queries)
    other = sid_kit.windows(tuple(f"{title}!" for title in sid_kit.titles()))
    with pytest.raises(ArtefactError, match="of other titles"):
        back.recommend(sid_kit.exam(other).queries, 5)
