import numpy as np
import pytest
import torch
from decode_kit import dull_scores, top
from soft_kit import TITLES, TOY, UNSEEN, Soft

from bench.errors import ArtefactError, ConfigError
from bench.registry import decoders
from llmrec.decode.rule import Rule
from llmrec.lm.soft_tokens import (
    PLACEHOLDER,
    ItemVectors,
    check_trained_on,
    fingerprint,
)
from llmrec.lm.soft_users import FIRST_USER
from llmrec.losses.lml import LML
from llmrec.prompt import TooLong
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.packing import Example


def test_one_slot_for_each_history_item_and_one_for_the_user():
    prompt = Soft().prompter.prompt([3, 5, 3, 1])
    assert prompt.slots[prompt.slots > 0].tolist() == [3, 5, 3, 1]
    assert (prompt.slots < 0).sum() == 1 and prompt.slots.min() == FIRST_USER
    assert len(prompt.ids) == len(prompt.slots)


def test_dropped_titles_lose_their_slots_but_the_user_keeps_them():
    setting = Soft()
    whole = setting.prompter.prompt([3, 5, 2, 1])
    setting.prompter.cutoff = len(whole) - 1 + setting.prompter.answer_budget
    short = setting.prompter.prompt([3, 5, 2, 1])
    assert short.dropped == 1 and short.slots[short.slots > 0].tolist() == [5, 2, 1]
    assert short.slots.min() == whole.slots.min(), "the same history is the same user"
    setting.prompter.cutoff = 20
    with pytest.raises(TooLong):
        setting.prompter.prompt([3])


def test_the_user_is_all_of_the_history_where_less_of_it_is_shown():
    setting = Soft()
    whole, known = setting.prompter.prompt([3, 5, 2, 1]), len(setting.users)
    setting.prompter.most = 2
    short = setting.prompter.prompt([3, 5, 2, 1])
    assert short.slots[short.slots > 0].tolist() == [2, 1] and short.dropped == 0
    assert short.slots.min() == whole.slots.min() and len(setting.users) == known


def test_slots_are_filled_out_of_place_and_nothing_else_changes():
    setting = Soft()
    lm, prompt = setting.lm, setting.prompter.prompt([3, UNSEEN, 1])
    ids, slots = (torch.from_numpy(x.astype(np.int64))[None] for x in (prompt.ids, prompt.slots))
    weight = lm.causal.get_input_embeddings().weight
    before = weight.detach().clone()
    embeds = lm.embed(ids, slots)
    assert embeds.shape == (*ids.shape, 48), "one vector a token: logits stay aligned with the ids"
    ordinary = slots[0] == 0
    assert torch.equal(embeds[0, ordinary], weight[ids[0, ordinary]])
    soft = lm.soft
    item = torch.from_numpy(setting.vector_ND)
    torch.testing.assert_close(embeds[0, slots[0] == 3][0], soft.item(item[3]))
    assert torch.equal(embeds[0, slots[0] == UNSEEN][0], soft.placeholder_D)
    user = soft.user(item[[3, 1]].mean(0))  # the unseen item is left out of what is read
    torch.testing.assert_close(embeds[0, slots[0] == FIRST_USER][0], user)
    embeds.sum().backward()
    assert torch.equal(weight, before) and lm.vocabulary == len(before)


def test_the_carrier_token_is_never_read():
    setting = Soft()
    prompt = setting.prompter.prompt([3, 1])
    ids, slots = (torch.from_numpy(x.astype(np.int64))[None] for x in (prompt.ids, prompt.slots))
    other = torch.where(slots != 0, ids + 7, ids)
    assert torch.equal(setting.lm.embed(ids, slots), setting.lm.embed(other, slots))


def test_explicit_placeholders_and_users_without_a_number():
    soft = Soft().lm.soft
    filled = soft(torch.zeros(1, 2, 48), torch.tensor([[0, PLACEHOLDER]]))
    assert torch.equal(filled[0, 1], soft.placeholder_D) and not filled[0, 0].any()
    with pytest.raises(AssertionError, match="names no user"):
        soft(torch.zeros(1, 1, 48), torch.tensor([[-1]]))


def test_each_user_is_encoded_once_and_only_by_known_items():
    setting = Soft()
    users = setting.users
    assert users.number([3, UNSEEN, 1]) == users.number([3, 1]) == 0
    assert users.number([UNSEEN]) == 1 and users.number([2]) == 2
    table = users.table(torch.device("cpu"))
    assert users.table(torch.device("cpu")).shape == (3, 8)
    assert users.number([4]) == 3 and len(users.table(torch.device("cpu"))) == 4
    assert setting.encoded == [(3, 1), (2,), (4,)]
    assert (table[1] == 0.5).all() and users.nobody([UNSEEN]) and not users.nobody([2, UNSEEN])


def test_what_stands_for_unseen_items():
    vector_ND = np.arange(8, dtype=np.float32).reshape(4, 2)
    seen_N = np.array([False, True, True, False])
    made = {way: ItemVectors.of(vector_ND, seen_N, way) for way in ("placeholder", "raw", "mean")}
    assert made["placeholder"].known_N.tolist() == [False, True, True, False]
    assert (
        made["raw"].known_N.tolist() == made["mean"].known_N.tolist() == [False, True, True, True]
    )
    assert made["raw"].vector_NF[3].tolist() == [6, 7]
    assert made["mean"].vector_NF[3].tolist() == [3, 4]
    with pytest.raises(ConfigError, match="'zero'; allowed are placeholder, raw, mean"):
        ItemVectors.of(vector_ND, seen_N, "zero")


def test_gradients_do_not_depend_on_micro_batches_or_the_shared_opening():
    setting = Soft()
    lm, trie = setting.lm.train(), setting.trie
    loss = LML(None, trie, vocabulary=lm.vocabulary, avt=trie.avt())
    histories = [([3, 5, 1], 2), ([4, UNSEEN], 7), ([2], 3), ([6, 6, 8, 1], 5)]
    rows = [
        Example(setting.prompter.prompt(items, training=True), int(trie.leaf_of_item_N[target]))
        for items, target in histories
    ]

    def gradient(size, shared):
        lm.zero_grad()
        batch_loss = TokenBatchLoss(loss, trie, shared=shared)
        for part in batch_loss.parts(rows, size):
            (batch_loss.sum(lm, part) / batch_loss.count(rows)).backward()
        return torch.cat([p.grad.flatten() for p in lm.trainable().values()])

    lm.zero_grad()
    for row in rows:  # the dull way: one row at a time, all logits, the library's cross entropy
        answer = torch.from_numpy(trie.answer[row.leaf].astype(np.int64))
        ids = torch.cat([torch.from_numpy(row.prompt.ids.astype(np.int64)), answer])[None]
        slots = torch.zeros_like(ids)
        slots[0, : len(row.prompt)] = torch.from_numpy(row.prompt.slots.astype(np.int64))
        logits = lm.causal(inputs_embeds=lm.embed(ids, slots)).logits
        of_answer = logits[0, len(row.prompt) - 1 : -1]
        summed = torch.nn.functional.cross_entropy(of_answer, answer, reduction="sum")
        (summed / sum(trie.answer.lengths[r.leaf] for r in rows)).backward()
    dull = torch.cat([p.grad.flatten() for p in lm.trainable().values()])
    assert setting.prompter.shared > 20, "the opening ends before the user slot"
    for size, shared in ((4, setting.prompter.shared), (1, 0), (2, setting.prompter.shared)):
        torch.testing.assert_close(gradient(size, shared), dull, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["beam", "exact", "generate"])
def test_decoders_score_with_soft_tokens_as_the_dull_scorer_does(name):
    setting = Soft()
    with torch.no_grad():
        for parameter in setting.lm.causal.parameters():  # so that there are no near ties
            parameter.mul_(4.0 if parameter.ndim == 2 else 1.0)
    histories = [[3, 5, 1], [5, 3, 1], [4, UNSEEN], [2]]
    prompts = [setting.prompter.prompt(history) for history in histories]
    options = {"beam": {}, "exact": {}, "generate": {"renormalize": True, "length_penalty": 0.0}}
    found = decoders.get(name)(options[name])(setting.lm.eval(), prompts, setting.trie, 5)
    dull = dull_scores(setting.lm, prompts, setting.trie, Rule())
    of_found = np.take_along_axis(dull, found.leaf_QK.astype(int), 1)
    np.testing.assert_allclose(found.score_QK, of_found, atol=1e-4)
    if name != "generate":  # which ends before it has seen all titles
        assert np.array_equal(found.leaf_QK, top(dull, 5))
    assert np.abs(dull[0] - dull[1]).max() > 1e-2, "the order of the history shows"


def test_what_a_vector_changes():
    setting = Soft()
    plain = setting.logits([3, 1]).detach()
    with torch.no_grad():
        setting.lm.soft.vector_NF[5] += 1
    assert torch.equal(setting.logits([3, 1]), plain), "an item that is not in the history"
    with torch.no_grad():
        setting.lm.soft.vector_NF[3] += 1
    assert not torch.allclose(setting.logits([3, 1]), plain)
    with torch.no_grad():
        setting.lm.soft.vector_NF[3] -= 1
        setting.users._table_UF[0] += 1
    assert not torch.allclose(setting.logits([3, 1]), plain), "the user slot"


def test_projections_are_saved_whatever_their_gradients():
    setting = Soft()
    names = set(setting.lm.learnt())
    setting.lm.soft.requires_grad_(False)
    assert set(setting.lm.learnt()) == names
    assert {"soft.item.0.weight", "soft.user.2.bias", "soft.placeholder_D"} <= names


@pytest.mark.parametrize(("frozen", "lora"), [(True, False), (False, True)])
def test_gradients_only_where_intended(frozen, lora):
    setting = Soft(frozen=frozen, lora=lora)
    setting.logits([3, 1], train=True).logsumexp(0).backward()
    with_grad = {name for name, p in setting.lm.named_parameters() if p.grad is not None}
    soft = {f"soft.{name}" for name, _ in setting.lm.soft.named_parameters()}
    adapters = {name for name, _ in setting.lm.named_parameters() if "lora_" in name}
    assert with_grad == soft | adapters
    assert bool(adapters) == lora and setting.lm.model.training != frozen


def test_other_data_is_refused():
    seen_N = TOY.train.seen.copy()
    check_trained_on(seen_N, TOY.train, "sasrec")
    with pytest.raises(ArtefactError, match="knows 8 items, the catalogue holds 40"):
        check_trained_on(np.ones(len(TITLES) - 1, bool), TOY.train, "sasrec")
    item = int(TOY.train.target_W[0])
    seen_N[item] = False
    with pytest.raises(ArtefactError, match=f"item {item} .* is new to it"):
        check_trained_on(seen_N, TOY.train, "sasrec")
    vector_ND = np.ones((41, 2), np.float32)
    assert fingerprint(vector_ND, seen_N) != fingerprint(vector_ND, TOY.train.seen)
