"""LLM-CF: guards that hold on sliding windows, causality, and equality with SASRec."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.losses.base import Trained
from bench.cell import Run
from bench.conformance import toy_data
from bench.errors import ArtefactError, ConfigError
from bench.method import configure, keep, restore
from bench.registry import methods
from bench.types import Queries, Ragged, Windows
from llmrec.llm_cf._bank import Asked, Bank
from llmrec.llm_cf._in_context import InContext, rotated

SMALL = {"epochs": 3, "hidden_size": 16, "inner_size": 32, "batch_size": 64, "text_encoder": "hash"}


@pytest.fixture(scope="module")
def cot(tmp_path_factory):
    """Rationales by template for half of the toy rows, and the same without text."""
    toy, made = toy_data(), {}
    for source in ("template", "none"):
        folder = tmp_path_factory.mktemp(source)
        kind = methods.get("cot")
        values = {"source": source, "text_encoder": "hash", "sample": 0.5}
        method = kind(configure(kind, values), backbone="tiny")
        method.fit(toy.train, toy.valid, Run(seed=1, device="cpu", folder=folder))
        keep(method, folder / "kept")
        made[source] = folder / "kept"
    return made


@pytest.fixture(scope="module")
def bank(cot):
    return Bank.read(cot["template"], toy_data().train, 10)[0]


@pytest.mark.parametrize("guard", ["order", "global"])
def test_no_row_sees_its_own_future_or_itself(bank, guard):
    train = toy_data().train
    found = bank.retrieve(Asked.rows(train), n=4, guard=guard, seed=0)
    for row, examples in enumerate(found):
        for entry in examples[examples >= 0]:
            if guard == "global" or bank.user_M[entry] == train.user_W[row]:
                assert bank.time_M[entry] < train.timestamp_W[row]
    served = (found >= 0).all(1)
    assert served[1:].mean() > 0.9 and ((found >= 0).any(1) == served).all()


def test_a_later_window_of_the_same_length_does_not_pass(bank):
    """Two windows of ten of one user: the later one holds the target of the earlier one."""
    long = np.arange(1, 11)
    item_NT = bank.item_NT
    two = Bank(
        item_NT=item_NT,
        text_MT=np.zeros((2, 3), np.float32),
        history_MH=np.stack([long, long + 1]),
        user_M=np.array([7, 7]),
        row_M=np.array([0, 1]),
        time_M=np.array([50, 50]),  # windows of one day tie in time
        item_M=np.array([11, 12]),
        label_M=np.array([1, 1]),
        users_U=np.array([7]),
    )
    asked = Asked(Ragged.of([long]), np.array([7]), np.array([50]), np.array([11]))
    assert two.banned(asked, "order").tolist() == [[True, True]]
    assert (two.retrieve(asked, n=2, guard="order", seed=0) == -1).all()
    assert two.banned(asked, "released").tolist() == [[False, False]]  # the authors' rule
    after = Asked(asked.history, asked.user_Q, np.array([50]), np.array([0]))
    assert two.banned(after, "order").tolist() == [[False, False]]
    before = Asked(asked.history, asked.user_Q, np.array([49]), np.array([0]))
    assert two.banned(before, "order").all()
    again = Asked(asked.history, asked.user_Q, np.array([60]), np.array([11]))
    assert two.banned(again, "order").tolist() == [[False, True]]  # the second one tells the target


@pytest.mark.parametrize("guard", ["order", "global"])
def test_sampled_rows_that_tie_in_time_tell_nothing(bank, guard):
    """A sample comes in a random order, so a smaller place says nothing about what came first."""
    whole = sliding_windows(users=6, each=12, items=bank.item_NT.shape[0] - 1)
    train = whole.sample(60)
    assert (np.diff(train.timestamp_W) < 0).any()  # not in the order of the file
    mine = bank_of(train, bank.item_NT)
    asked = Asked.rows(train)
    found = mine.retrieve(asked, n=4, guard=guard, seed=0)
    own = 0
    for row, examples in enumerate(found):
        for entry in examples[examples >= 0]:
            if mine.user_M[entry] == train.user_W[row]:
                own += 1
                assert mine.time_M[entry] < train.timestamp_W[row]
                assert train.target_W[row] not in mine.history_MH[entry]
    assert own > 20  # earlier days of the same user do serve


def sliding_windows(*, users, each, items):
    """Windows of ten of a few users, several a day, whose order within the day only the file tells."""
    columns = {"user": [], "history": [], "target": [], "time": []}
    for user in range(users):
        bought = 1 + np.random.default_rng(user).permutation(items)[: each + 10]
        for at in range(each):
            columns["user"].append(user)
            columns["history"].append(bought[at : at + 10])
            columns["target"].append(bought[at + 10])
            columns["time"].append(at // 4)
    return Windows(
        toy_data().train.catalogue,
        np.array(columns["user"]),
        Ragged.of(columns["history"]),
        np.array(columns["target"]),
        np.array(columns["time"]),
    )


def bank_of(train, item_NT):
    """Two entries for each row, without rationales."""
    row_M = np.repeat(np.arange(len(train)), 2)
    return Bank(
        item_NT=item_NT,
        text_MT=np.zeros((len(row_M), 0), np.float32),
        history_MH=train.history.take(row_M).padded(10, align="left").astype(np.int64),
        user_M=train.user_W[row_M],
        row_M=row_M,
        time_M=train.timestamp_W[row_M],
        item_M=train.target_W[row_M],
        label_M=np.tile([1, 0], len(train)),
        users_U=np.unique(train.user_W),
    )


def test_retrieval_takes_the_most_similar_half_and_half(bank):
    train = toy_data().train
    asked = Asked.queries(toy_data().queries)
    found = bank.retrieve(asked, n=4, guard="order", seed=0)
    like = bank._mean(asked.history.padded(10, align="left").astype(int)) @ bank.mean_MT.T
    like[bank.banned(asked, "order")] = -9
    for query, examples in enumerate(found):
        assert sorted(bank.label_M[examples]) == [0, 0, 1, 1]
        for label in (0, 1):
            mine = examples[bank.label_M[examples] == label]
            best = np.sort(like[query][bank.label_M == label])[-2:]
            np.testing.assert_allclose(np.sort(like[query][mine]), best, atol=1e-5)
    assert len(train) and not (bank.label_M[found] == [1, 1, 0, 0]).all(1).all()  # shuffled


def test_retrieval_does_not_depend_on_who_else_asks(bank):
    asked = Asked.rows(toy_data().train)
    whole = bank.retrieve(asked, n=4, guard="order", seed=0)
    some = np.arange(len(whole))[::-3].copy()
    np.testing.assert_array_equal(
        bank.retrieve(asked.take(some), n=4, guard="order", seed=0), whole[some]
    )


def test_too_few_of_a_kind_are_filled_from_the_other_and_repeated(bank):
    def with_labels(label_M):
        keep_M = np.arange(len(label_M))
        return Bank(
            item_NT=bank.item_NT,
            text_MT=bank.text_MT[keep_M],
            history_MH=bank.history_MH[keep_M],
            user_M=bank.user_M[keep_M],
            row_M=bank.row_M[keep_M],
            time_M=bank.time_M[keep_M],
            item_M=bank.item_M[keep_M],
            label_M=np.array(label_M),
            users_U=bank.users_U,
        )

    asked = Asked.queries(toy_data().queries)
    found = with_labels([1, 0, 0, 0]).retrieve(asked, n=4, guard="order", seed=0)
    assert (np.sort(found, 1) == [0, 1, 2, 3]).all()
    found = with_labels([1, 1]).retrieve(asked, n=4, guard="order", seed=0)
    assert (np.sort(found, 1) == [0, 0, 1, 1]).all()


def test_a_history_without_titles_gets_random_examples(bank):
    rows = Ragged.of([[], [], [0]])
    asked = Asked(rows, np.array([901, 902, 903]), np.full(3, 10**9), np.zeros(3, int))
    found = bank.retrieve(asked, n=4, guard="order", seed=0)
    assert (found >= 0).all() and len({tuple(row) for row in found}) > 1
    np.testing.assert_array_equal(found, bank.retrieve(asked, n=4, guard="order", seed=0))


def decoder(rationales=True):
    torch.manual_seed(0)
    return InContext(width=8, text=6, users=3, shape=(2, 2, 12), rationales=rationales).eval()


@pytest.mark.parametrize("rationales", [True, False])
def test_the_last_output_depends_on_every_token(rationales):
    net = decoder(rationales)
    tensors = [torch.randn(1, 4, 8), torch.randn(1, 4, 6), torch.randn(1, 8)]
    for tensor in tensors:
        tensor.requires_grad_()
    label = torch.tensor([[0, 1, 1, 0]])
    w, guess = net(tensors[0], tensors[1], label, tensors[2])
    w.square().sum().backward()
    assert (tensors[0].grad.abs().sum(-1) > 0).all() and (tensors[2].grad.abs().sum() > 0).all()
    assert (tensors[1].grad is None) == (not rationales)
    if rationales:
        assert (tensors[1].grad.abs().sum(-1) > 0).all()
    for place in range(4):
        other = label.clone()
        other[0, place] = 1 - other[0, place]
        assert (net(tensors[0], tensors[1], other, tensors[2])[0] - w).abs().max() > 1e-6
    assert guess.shape == (1, 4, 6)


def test_a_rationale_is_predicted_from_what_comes_before_it():
    net = decoder()
    feature, text, query = torch.randn(1, 4, 8), torch.randn(1, 4, 6), torch.randn(1, 8)
    label = torch.tensor([[0, 1, 1, 0]])
    _, before = net(feature, text, label, query)
    changed = text.clone()
    changed[0, 2] += 1
    _, after = net(feature, changed, label, query)
    assert torch.equal(before[:, :3], after[:, :3]) and not torch.equal(before[:, 3], after[:, 3])


def test_rotary_products_depend_on_the_distance_only():
    torch.manual_seed(0)
    q, k = (x.expand(1, 1, 6, 8) for x in torch.randn(2, 1, 1, 1, 8))
    score = (rotated(q) @ rotated(k).transpose(-1, -2))[0, 0]
    for offset in range(1, 5):
        diagonal = score.diagonal(offset)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-5)
    assert not torch.allclose(score[0, 0], score[0, 3], atol=1e-3)


def fitted(name, folder, config=None, *, cot=None):
    toy, kind = toy_data(), methods.get(name)
    values = {**SMALL, **(config or {})}
    if name == "sasrec":
        del values["text_encoder"]
    method = kind(configure(kind, values))
    folder.mkdir()
    inputs = {} if cot is None else {"cot": cot}
    run = Run(seed=3, device="cpu", folder=folder, inputs=inputs)
    method.fit(toy.train, toy.valid, run)
    return method, run


def test_without_injection_it_is_sasrec_bit_for_bit(tmp_path):
    toy = toy_data()
    plain, _ = fitted("sasrec", tmp_path / "a")
    mine, run = fitted("llm_cf", tmp_path / "b", {"inject": 0.0})
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(weight, mine.model.state_dict()[name]), name
    one, two = (m.recommend(toy.queries, 10) for m in (plain, mine))
    np.testing.assert_array_equal(one.item_QK, two.item_QK)
    np.testing.assert_array_equal(one.score_QK, two.score_QK)
    assert run.facts["variant"] == "nothing injected"
    kind = methods.get("llm_cf")
    assert kind.needs(configure(kind, {"inject": 0.0}), loss=None, backbone=None) == {}


def test_a_vanishing_injection_approaches_sasrec(tmp_path, cot):
    """SASRec's weights are drawn before the decoder's; without dropout nothing else is left to chance."""
    config = {"dropout": 0.0, "epochs": 1}
    plain, _ = fitted("sasrec", tmp_path / "a", config)
    far = []
    for name, inject in (("b", 1e-12), ("c", 0.1)):
        mine, _ = fitted(
            "llm_cf", tmp_path / name, {**config, "inject": inject}, cot=cot["template"]
        )
        far.append(np.abs(mine.item_vectors()[1:] - plain.item_vectors()[1:]).max())
    assert far[0] < 1e-6 < far[1]


@pytest.mark.parametrize(
    ("source", "config", "variant"),
    [
        ("template", {}, "template, 160 rationales"),
        ("none", {"user_emb": False}, "no CoT, 160 examples"),
        ("template", {"rho": 1.0, "guard": "global"}, "template, 160 rationales"),
        ("template", {"objective": "sampled", "guard": "released"}, "template, 160 rationales"),
    ],
)
def test_it_learns_is_kept_and_says_what_it_read(tmp_path, cot, source, config, variant):
    toy = toy_data()
    mine, run = fitted("llm_cf", tmp_path / "a", config, cot=cot[source])
    keep(mine, tmp_path / "kept")
    back = restore(tmp_path / "kept", device="cpu")
    one, two = (m.recommend(toy.queries, 10) for m in (mine, back))
    np.testing.assert_array_equal(one.item_QK, two.item_QK)
    assert run.facts["variant"] == variant


def test_the_norms_of_the_decoder_have_the_epsilon_asked_for(tmp_path, cot):
    config = {"norm_eps": 1e-5, "epochs": 1}
    context = fitted("llm_cf", tmp_path / "a", config, cot=cot["template"])[0].model.context
    norms = [m for m in context.modules() if isinstance(m, torch.nn.RMSNorm)]
    assert len(norms) == 5 and {norm.eps for norm in norms} == {1e-5}
    plain = fitted("llm_cf", tmp_path / "b", {"epochs": 1}, cot=cot["template"])[0].model.context
    assert plain.norm.eps is None


@pytest.mark.parametrize(("rho", "user_emb"), [(0.0, True), (1.0, False)])
def test_gradients_reach_what_should_learn(tmp_path, cot, rho, user_emb):
    config = {"rho": rho, "user_emb": user_emb, "epochs": 1}
    mine, _ = fitted("llm_cf", tmp_path / "a", config, cot=cot["template"])
    model, toy = mine.model, toy_data()
    rows = np.arange(100, 132)
    item_BH = torch.from_numpy(toy.train.history.take(rows).padded(10, align="left")).long()
    length = torch.from_numpy(toy.train.history.lengths[rows])
    model.zero_grad()
    u, rebuilt = model.informed(item_BH, length, model.user_W[rows], model.example_WC[rows])
    (u.square().sum() + rho * rebuilt).backward()
    grads = {n: p.grad is not None and bool(p.grad.any()) for n, p in model.named_parameters()}
    assert grads["context.recover.weight"] == (rho > 0) and (rebuilt != 0) == (rho > 0)
    assert grads["context.users.weight"] == user_emb
    for name in ("features.weight", "text.weight", "labels.weight", "blocks.1.packed.weight"):
        assert grads[f"context.{name}"], name
    assert grads["item_embedding.weight"] and not model.text_MT.requires_grad


def test_the_users_vector_knows_nothing_of_the_target(tmp_path, cot):
    toy = toy_data()
    mine, _ = fitted("llm_cf", tmp_path / "a", cot=cot["template"])
    model, rows = mine.model, np.arange(32)
    item_BH = torch.from_numpy(toy.train.history.take(rows).padded(10, align="left")).long()
    length = torch.from_numpy(toy.train.history.lengths[rows])

    def user_vectors():
        return model.informed(item_BH, length, model.user_W[rows], model.example_WC[rows])[0]

    before = user_vectors()
    own = np.isin(mine.bank.row_M, rows)
    item_M, text_MT = mine.bank.item_M.copy(), mine.bank.text_MT.copy()
    assert own.sum() > 10
    for row in rows:  # what was written about a row tells its target
        entries = mine.bank.row_M == row
        changed = replace(mine.bank, item_M=item_M % 40 + 1, text_MT=text_MT[::-1].copy())
        changed = replace(
            changed,
            item_M=np.where(entries, changed.item_M, item_M),
            text_MT=np.where(entries[:, None], changed.text_MT, text_MT),
        )
        model.attach(changed)
        again = changed.retrieve(Asked.rows(toy.train), n=4, guard="order", seed=mine._seed)
        model.attach_rows(again, changed.place_of(toy.train.user_W))
        assert torch.equal(before[row], user_vectors()[row])


def test_examples_change_what_is_recommended(tmp_path, cot):
    toy = toy_data()
    mine, _ = fitted("llm_cf", tmp_path / "a", {"inject": 1.0}, cot=cot["template"])
    before = mine.recommend(toy.queries, 10).score_QK
    mine.model.text_MT = -mine.model.text_MT
    assert np.abs(mine.recommend(toy.queries, 10).score_QK - before).max() > 1e-4


def test_unknown_users_have_no_vector(bank):
    assert bank.place_of(np.array([bank.users_U[0], 10**6, bank.users_U[-1]])).tolist() == [
        1,
        0,
        len(bank.users_U),
    ]


def test_users_start_near_the_zeros_of_an_unknown_one():
    weight = InContext(width=64, text=6, users=50, shape=(1, 2, 12), rationales=True).users.weight
    assert not weight[0].any() and 0.1 < weight[1:].norm(dim=1).mean() < 0.2


def test_an_empty_history_and_a_lone_query_are_served(tmp_path, cot):
    toy = toy_data()
    mine, _ = fitted("llm_cf", tmp_path / "a", cot=cot["template"])
    one = Queries(toy.train.catalogue, np.array([10**6]), Ragged.of([[]]), np.array([10**9]))
    ranking = mine.recommend(one, 5)
    assert len(set(ranking.item_QK[0])) == 5 and np.isfinite(ranking.score_QK).all()


def test_sampled_softmax_against_a_loop(tmp_path, cot):
    mine, _ = fitted("llm_cf", tmp_path / "a", {"objective": "sampled"}, cot=cot["template"])
    model, target = mine.model.eval(), torch.tensor([3, 5])
    shared_E = torch.tensor([5, 9, 9, 30])
    user, table = torch.randn(2, 16), model.item_table()
    total = 0.0
    for u, t in zip(user, target, strict=True):
        others = [(u @ table[e]).item() for e in shared_E if e != t]
        own = (u @ table[t]).item()
        total -= own - np.log(np.exp([own, *others]).sum())
    assert model.item_loss(Trained(user, target, model, shared_E)).item() == pytest.approx(
        total / 2, rel=1e-4
    )


def test_rationales_of_other_rows_are_refused(tmp_path, cot):
    with pytest.raises(ArtefactError, match="other training rows"):
        Bank.read(cot["template"], toy_data().train.take(np.arange(150)), 10)
    with pytest.raises(ArtefactError, match="bench run --methods llm_cf"):
        Bank.read(tmp_path, toy_data().train, 10)


@pytest.mark.parametrize(
    "wrong", [{"n_icl": 3}, {"guard": "none"}, {"cot_source": "web"}, {"inject": 0.0, "rho": 1.0}]
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ConfigError):
        configure(methods.get("llm_cf"), wrong)


def test_its_rationales_are_a_need():
    kind = methods.get("llm_cf")
    config = configure(kind, {"cot_source": "template", "cot": {"rows": 9}})
    need = kind.needs(config, loss=None, backbone="tiny")["cot"]
    assert (need.method, need.config["source"], need.config["rows"]) == ("cot", "template", 9)
    with pytest.raises(ConfigError, match="there is no key"):
        kind.needs(configure(kind, {"cot": {"rowz": 9}}), loss=None, backbone=None)


def test_a_base_model_leaves_the_writing_to_its_instruct_model():
    kind = methods.get("llm_cf")

    def writer(backbone, **values):
        return kind.needs(configure(kind, values), loss=None, backbone=backbone)["cot"].backbone

    assert writer("smollm2-135m") == "smollm2-135m" and writer(None) is None
    assert writer("meta-llama/Meta-Llama-3-8B") == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert writer("meta-llama/Meta-Llama-3-8B", writer="tiny") == "tiny"
