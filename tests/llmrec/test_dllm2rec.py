"""DLLM2Rec: weights by hand, equality with SASRec, and refusal of artefacts that do not belong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines import _recbole as rb
from baselines.causal import NEGATIVE
from baselines.training import columns
from bench.cell import Run
from bench.conformance import toy_data
from bench.errors import ConfigError
from bench.method import configure, keep, restore
from bench.registry import methods
from llmrec.dllm2rec import _teacher_files as files
from llmrec.dllm2rec._distill import (
    Importance,
    confidence_part,
    consistency_part,
    importance,
    position_part,
    ranking_distillation,
    robust_distillation,
    row_confidence,
    row_scale,
)
from llmrec.dllm2rec._teacher_files import TeacherArtifactsMissing

SMALL = {"epochs": 3, "hidden_size": 16, "inner_size": 32, "batch_size": 64}
RELEASED = {  # what the authors' code has
    "objective": "bce_last",
    "conf_norm": "none",
    "ed_apply": "input",
    "neg_term": "code",
    "tied": False,
    "activation": "relu",
    "norm_first": True,
}
K = 8  # items that the teacher of these tests lists


def test_position_weights_of_the_paper():
    found = position_part(10, 1.0).tolist()
    assert [round(x, 3) for x in found[:4]] == [0.632, 0.233, 0.086, 0.031]
    assert sum(found) == pytest.approx(1)


def test_parts_by_hand():
    distance = torch.tensor([[0.0, np.log(3.0), np.inf]], dtype=torch.float64)
    assert confidence_part(distance)[0].tolist() == pytest.approx([0.75, 0.25, 0], abs=1e-7)
    # the student's two best are items 2 and 3
    logit = torch.tensor([[0.0, 5.0, 4.0, -1.0]])
    agree = consistency_part(torch.tensor([[3, 1]]), logit)
    assert agree[0].tolist() == pytest.approx([1, 0], abs=1e-7)
    rows = row_confidence(torch.tensor([0.0, np.log(3.0), np.inf]))
    assert rows.tolist() == pytest.approx([1.5, 0.5, 0.0])


def test_importance_sums_to_one_and_skips_what_is_not_there():
    chance = torch.Generator().manual_seed(0)
    item = torch.tensor([[3, 1, 2], [5, 4, 0], [0, 0, 0]])
    distance = torch.rand(3, 3, generator=chance).masked_fill(item == 0, torch.inf)
    weight = importance(Importance(), item, distance, torch.randn(3, 6, generator=chance))
    assert weight.sum(1).tolist() == pytest.approx([1, 1, 0])
    assert (weight[item == 0] == 0).all() and not weight.isnan().any()


def test_confidence_per_row_is_not_divided_away():
    item, logit = torch.tensor([[1, 2], [1, 2]]), torch.zeros(2, 5)
    rule = Importance(position=0, confidence=1, consistency=0, per="target")
    weight = importance(rule, item, torch.zeros(2, 2), logit, torch.tensor([1.5, 0.5]))
    np.testing.assert_allclose(weight, [[1.5, 1.5], [0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 90.0, 5000.0])
def test_confidence_per_row_survives_large_distances(offset):
    """Only differences count: exp(-90) is below every floor, and its mean still is 1."""
    rows = row_confidence(offset + torch.tensor([0.0, np.log(3.0), np.inf]))
    assert rows.tolist() == pytest.approx([1.5, 0.5, 0.0], rel=1e-3)
    assert not row_confidence(torch.full((3,), torch.inf)).any()


def test_a_rows_confidence_does_not_depend_on_its_batch(tmp_path):
    toy = toy_data()
    folder = teacher_for(toy.train, tmp_path / "teacher")
    far = 80 + np.arange(100, dtype=np.float32) / 50
    np.save(folder / "dist_target.npy", far)
    config = {"confidence": "target", "conf_norm": "none", "epochs": 1}
    mine, _ = fitted("dllm2rec", tmp_path / "a", config, teacher=folder)
    by_hand = np.exp(80.0 - far) / np.exp(80.0 - far).mean()
    np.testing.assert_allclose(mine.model.sure_T, by_hand, rtol=1e-4)


def test_importance_worked_on_paper():
    # K = 2, beta = 1: position .731/.269; distances 0 and ln 3: confidence .75/.25; only item 1 agreed on
    item, distance = torch.tensor([[1, 2]]), torch.tensor([[0.0, float(np.log(3.0))]])
    logit = torch.tensor([[9.0, -9.0, 8.0]])
    raw = np.array([0.3 * 0.731059 + 0.5 * 0.75 + 0.1, 0.3 * 0.268941 + 0.5 * 0.25])
    found = importance(Importance(), item, distance, logit)
    np.testing.assert_allclose(found[0], raw / raw.sum(), rtol=1e-5)


def test_row_scale_turns_a_collapse_into_a_ranking():
    distance = torch.tensor([[40.0, 44.0], [30.0, 32.0], [50.0, np.inf], [np.inf, np.inf]])
    low, scale = row_scale(distance)
    assert low.tolist() == [40, 30, 50, 0] and scale == 2.0
    raw = confidence_part(distance)
    np.testing.assert_allclose(raw[0], 0.5, atol=0.01)  # under the floor: uniform
    scaled = confidence_part((distance - low[:, None]) / scale)
    assert scaled[0, 0] > 0.8 and scaled[1, 0] > 0.7 and not scaled.isnan().any()


@pytest.mark.parametrize("term", ["code", "correct", "none"])
def test_ranking_distillation_against_a_loop(term):
    chance = torch.Generator().manual_seed(1)
    logit = torch.randn(4, 7, generator=chance, dtype=torch.float64)
    item = torch.tensor([[1, 2, 3], [7, 6, 5], [2, 4, 0], [0, 0, 0]])
    weight = torch.rand(4, 3, generator=chance, dtype=torch.float64) * (item > 0)
    negative = torch.tensor([5, 1, 7, 3])
    total = 0.0
    for b in range(4):
        for k in range(3):
            if item[b, k] == 0:
                continue
            loss = -np.log(1 / (1 + np.exp(-logit[b, item[b, k] - 1].item())))
            y = logit[b, negative[b] - 1].item()
            if term == "code":
                loss -= np.log(1 / (1 + np.exp(-(1 - y))))
            if term == "correct":
                loss -= np.log(1 / (1 + np.exp(y)))
            total += weight[b, k].item() * loss / 4
    found = ranking_distillation(logit, item, weight, negative, term)
    assert found.item() == pytest.approx(total, rel=1e-6)


def test_robust_distillation_against_the_printed_formula():
    logit = torch.tensor([[0.5, -0.2, 0.1]])
    propensity, item, weight = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([[2]]), torch.ones(1, 1)
    u, y = propensity.numpy(), logit[0].numpy()
    inside = np.exp(u * y**2 / 2).sum() - np.exp(u[1] * y[1] ** 2 / 2)
    inside += np.exp(u[1] * (y[1] - 1) ** 2 / 2)
    found = robust_distillation(logit, item, weight, propensity, 2.0)
    assert found.item() == pytest.approx(np.log(inside), rel=1e-6)


def teacher_for(train, folder, *, rows=100, k=K, method="bigrec"):
    """Artefacts of a teacher that always names the items after the last one."""
    chance = np.random.default_rng(0)
    row_T = np.sort(chance.choice(len(train), rows, replace=False))
    last = train.history.last[row_T]
    item_TK = (last[:, None] + np.arange(k)) % train.n_items + 1
    distance_TK = np.tile(np.arange(k, dtype=np.float32), (rows, 1))
    point_ND = chance.normal(size=(train.n_items + 1, 12)).astype(np.float32)
    meta = {
        "k": k,
        "method": method,
        "loss": "lml",
        "backbone": "tiny",
        "rank": "l2",
        "train": files.train_hash(train),
        "items": files.titles_hash(train.catalogue),
        "n_train": len(train),
        "row_checksums": files.row_checksums(train, row_T),
    }
    target_T = distance_TK[:, 1]
    teacher = files.Teacher(row_T, item_TK, distance_TK, target_T, point_ND, meta)
    lines = ({"row": int(r), "text": "x", "logp": -1.0} for r in row_T)
    files.write(folder, teacher, lines)
    return folder


def fitted(name, folder, config=None, *, teacher=None, train=None, loss=None):
    toy = toy_data()
    values = {**SMALL, **({"k": K} if name == "dllm2rec" else {}), **(config or {})}
    method = methods.get(name)(configure(methods.get(name), values), loss=loss)
    folder.mkdir()
    inputs = {} if teacher is None else {"teacher": teacher}
    run = Run(seed=3, device="cpu", folder=folder, inputs=inputs)
    method.fit(train or toy.train, toy.valid, run)
    return method, run


@pytest.mark.parametrize("objective", ["ce", "bce"])
def test_without_weights_it_is_sasrec_bit_for_bit(tmp_path, objective):
    toy = toy_data()
    teacher = teacher_for(toy.train, tmp_path / "teacher")
    plain, plain_run = fitted("sasrec", tmp_path / "a", loss=objective)
    config = {"eta": 0.0, "lambda_d": 0.0, "objective": objective}
    mine, run = fitted("dllm2rec", tmp_path / "b", config, teacher=teacher)
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(weight, mine.model.state_dict()[name]), name
    one, two = (m.recommend(toy.queries, 10) for m in (plain, mine))
    np.testing.assert_array_equal(one.item_QK, two.item_QK)
    np.testing.assert_array_equal(one.score_QK, two.score_QK)
    assert plain_run.facts["valid_ndcg@5"] == run.facts["valid_ndcg@5"]


@pytest.mark.parametrize("config", [{"eta": 0.0}, {"lambda_d": 0.0}, {"objective": "bce"}])
def test_each_part_changes_the_student(tmp_path, config):
    toy = toy_data()
    teacher = teacher_for(toy.train, tmp_path / "teacher")
    plain, _ = fitted("sasrec", tmp_path / "a", loss=config.get("objective", "ce"))
    mine, run = fitted("dllm2rec", tmp_path / "b", config, teacher=teacher)
    assert not np.array_equal(plain.item_vectors(), mine.item_vectors())
    assert run.facts["variant"] == "teacher on 100 of 160 rows"


@pytest.mark.parametrize("config", [{}, RELEASED])
def test_saved_student_needs_no_teacher(tmp_path, config):
    toy = toy_data()
    teacher = teacher_for(toy.train, tmp_path / "teacher")
    mine, run = fitted("dllm2rec", tmp_path / "b", config, teacher=teacher)
    keep(mine, tmp_path / "kept")
    back = restore(tmp_path / "kept", device="cpu")
    one, two = (m.recommend(toy.queries, 5) for m in (mine, back))
    np.testing.assert_array_equal(one.item_QK, two.item_QK)
    assert back.model.project is None
    assert run.facts["variant"] == "teacher on 100 of 160 rows"
    assert hasattr(mine.model, "head") == (config == RELEASED)


def test_negatives_of_the_released_loss_are_outside_the_window(tmp_path):
    toy = toy_data()
    teacher = teacher_for(toy.train, tmp_path / "teacher")
    mine, _ = fitted("dllm2rec", tmp_path / "a", {**RELEASED, "lambda_d": 0.0}, teacher=teacher)
    batch = rb.Interaction(columns(toy.train.history, toy.train.target_W, mine.width))
    drawn = mine.model.draw(batch, None, np.random.default_rng(0))[NEGATIVE]
    windows = zip(toy.train.history, toy.train.target_W, drawn.tolist(), strict=True)
    assert all(item not in {*history[-mine.width :], target} for history, target, item in windows)


def test_enriched_table_scores_only_where_it_should(tmp_path):
    toy = toy_data()
    teacher = teacher_for(toy.train, tmp_path / "teacher")
    both, _ = fitted("dllm2rec", tmp_path / "a", teacher=teacher)
    entry, _ = fitted("dllm2rec", tmp_path / "b", {"ed_apply": "input"}, teacher=teacher)
    own = both.model.item_embedding.weight.detach().numpy()
    assert np.abs(both.item_vectors()[1:] - own[1:]).max() > 1e-3
    own = entry.model.item_embedding.weight.detach().numpy()
    np.testing.assert_array_equal(entry.item_vectors()[1:], own[1:])


def test_only_the_items_it_uses_rescale_the_confidence(tmp_path):
    """The teacher of these files lists 8 items at distances 0..7; of the first 4 the span is 3."""
    toy = toy_data()
    teacher = teacher_for(toy.train, tmp_path / "teacher")
    mine, _ = fitted("dllm2rec", tmp_path / "a", {"k": 4, "epochs": 1}, teacher=teacher)
    np.testing.assert_allclose(mine.model.distance_TK[0], np.arange(4) / 3, rtol=1e-6)


def test_a_teacher_that_lists_too_few_items_is_refused(tmp_path):
    toy = toy_data()
    teacher = teacher_for(toy.train, tmp_path / "teacher")
    with pytest.raises(ConfigError, match="k is 9, but the teacher lists 8"):
        fitted("dllm2rec", tmp_path / "a", {"k": 9}, teacher=teacher)
    kind = methods.get("dllm2rec")
    config = configure(kind, {"teacher": {"k": 6}})
    with pytest.raises(ConfigError, match=r"its teacher lists 6"):
        kind.needs(config, loss=None, backbone="tiny")


def test_items_without_a_title_get_no_text(tmp_path):
    toy = toy_data()
    titles = list(toy.train.catalogue.titles)
    titles[5] = ""
    train = replace(toy.train, catalogue=replace(toy.train.catalogue, titles=tuple(titles)))
    teacher = teacher_for(train, tmp_path / "teacher")
    mine, _ = fitted("dllm2rec", tmp_path / "a", teacher=teacher, train=train)
    extra = mine.model.extra_ND
    assert not extra[5].any() and extra[6].any() and not extra[0].any()


def test_rows_without_a_teacher_weigh_nothing(tmp_path):
    """A teacher of no usable row leaves the recommendation loss alone."""
    toy = toy_data()
    folder = teacher_for(toy.train, tmp_path / "teacher")
    rank = np.load(folder / "rank_topk.npy")
    np.save(folder / "rank_topk.npy", np.full_like(rank, -1))
    on, _ = fitted("dllm2rec", tmp_path / "a", {"eta": 0.0}, teacher=folder)
    assert np.isfinite(on.item_vectors()).all()
    plain, _ = fitted("sasrec", tmp_path / "b")
    np.testing.assert_allclose(on.item_vectors(), plain.item_vectors(), atol=1e-6)


@pytest.mark.parametrize("confidence", ["candidate", "target"])
def test_a_batch_of_covered_and_uncovered_rows(tmp_path, confidence):
    """Rows without a teacher weigh nothing, and the mean is over the whole batch all the same."""
    toy = toy_data()
    folder = teacher_for(toy.train, tmp_path / "teacher")
    config = {"confidence": confidence, "epochs": 1}
    model = fitted("dllm2rec", tmp_path / "a", config, teacher=folder)[0].model
    rows = torch.arange(len(toy.train))
    covered = torch.from_numpy(np.isin(rows, np.load(folder / "rows.npy")))
    chance = torch.Generator().manual_seed(0)
    logit = torch.randn(len(rows), toy.train.n_items, generator=chance)

    def distilled(which):
        target = torch.from_numpy(toy.train.target_W).long()[which]
        batch = {rb.ROW: rows[which], rb.ITEM: target, NEGATIVE: target % toy.train.n_items + 1}
        weight = model.teacher_weights(logit[which], batch)[1]
        return weight, model.distillation(logit[which], batch).item()

    weight, whole = distilled(rows >= 0)
    assert covered.sum() == 100 and not weight[~covered].any() and weight[covered].all()
    alone = distilled(covered)[1]
    assert whole == pytest.approx(alone * 100 / len(rows), rel=1e-5) and alone > 0
    assert distilled(~covered)[1] == 0


@pytest.mark.parametrize("fault", ["order", "rows", "titles", "file", "shape"])
def test_foreign_artefacts_are_refused(tmp_path, fault):
    toy = toy_data()
    folder = teacher_for(toy.train, tmp_path / "teacher")
    train = toy.train
    if fault == "order":
        train = train.take(np.arange(len(train))[::-1].copy())
    if fault == "rows":
        train = train.take(np.arange(150))
    if fault == "titles":
        titles = (*train.catalogue.titles[:-1], "Another")
        train = replace(train, catalogue=replace(train.catalogue, titles=titles))
    if fault == "file":
        (folder / "dist_topk.npy").unlink()
    if fault == "shape":
        np.save(folder / "dist_topk.npy", np.zeros((100, 3), np.float32))
    with pytest.raises(TeacherArtifactsMissing, match=r"bench run --methods dllm2rec"):
        fitted("dllm2rec", tmp_path / "a", teacher=folder, train=train)


def test_files_count_items_from_zero(tmp_path):
    toy = toy_data()
    folder = teacher_for(toy.train, tmp_path / "teacher")
    back = files.read(folder, toy.train)
    np.testing.assert_array_equal(np.load(folder / "rank_topk.npy") + 1, back.item_TK)
    assert np.load(folder / "rank_topk.npy").dtype == np.int32
    assert len((folder / "gen_text.jsonl").read_text().splitlines()) == len(back.row_T)
    assert back.point_ND.shape == (toy.train.n_items + 1, 12) and not back.point_ND[0].any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"neg_term": "paper"},
        {"tied": False},
        {"gamma": (0.3, 0.5)},
        {"lambda_d": -1},
        {"neg_term": "off"},
        {"confidence": "target", "teacher": {"rank": "beam"}},
    ],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ConfigError):
        configure(methods.get("dllm2rec"), wrong)


def test_a_folder_is_known_by_what_is_in_it(tmp_path):
    toy, kind = toy_data(), methods.get("dllm2rec")

    def complete(folder):
        config = configure(kind, {**SMALL, "k": K, "folder": str(folder)})
        return kind.complete(config, loss=None, decoder=None)

    assert complete(tmp_path / "none").folder_hash == ""
    one = complete(teacher_for(toy.train, tmp_path / "one"))
    two = complete(teacher_for(toy.train, tmp_path / "two", method="llara"))
    same = complete(teacher_for(toy.train, tmp_path / "same"))
    assert one.folder_hash == same.folder_hash != two.folder_hash
    run = Run(seed=3, device="cpu", folder=tmp_path)
    teacher_for(toy.train, tmp_path / "one", method="llara")
    with pytest.raises(TeacherArtifactsMissing, match="plan it again"):
        kind(one).fit(toy.train, toy.valid, run)


def test_its_teacher_is_a_need_that_any_llm_row_can_fill():
    kind = methods.get("dllm2rec")
    config = configure(kind, {"teacher": {"loss": "msl_ats", "rank": "beam"}})
    need = kind.needs(config, loss=None, backbone="tiny")["teacher"]
    assert (need.method, need.backbone) == ("teacher", "tiny")
    stage = methods.get("teacher")
    inner = stage.needs(configure(stage, need.config), loss=None, backbone="tiny")["teacher"]
    assert (inner.method, inner.loss, inner.backbone) == ("bigrec", "msl_ats", "tiny")
    with pytest.raises(ConfigError, match="family llm"):
        stage.needs(configure(stage, {"method": "sasrec"}), loss=None, backbone=None)
    with pytest.raises(ConfigError, match="there is no key"):
        kind.needs(configure(kind, {"teacher": {"rnk": "l2"}}), loss=None, backbone=None)
    assert kind.needs(configure(kind, {"folder": "x"}), loss=None, backbone=None) == {}
