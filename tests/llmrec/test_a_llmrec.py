import numpy as np
import pytest
import torch
from soft_kit import TOY, Stop, fit, stop_at

from bench.cell import Run
from bench.errors import ArtefactError, ConfigError, DataError, Unavailable
from bench.method import configure, restore
from bench.types import Catalogue, Queries, Ragged
from llmrec.a_llmrec._align import Autoencoder, Weights, agreement, alignment, negatives
from llmrec.a_llmrec._align_training import Aligner, Rows, Schedule, train
from llmrec.a_llmrec.a_llmrec import ALLMRec
from llmrec.a_llmrec.a_llmrec_align import ITEM, NOTHING, TEXT, Align, Joint, texts
from llmrec.lm import backbone
from llmrec.lm.text_encoder import load_encoder

UNSEEN = int(np.flatnonzero(~TOY.train.seen)[1])
FAST = {"epochs": 30, "lr": 3e-3}


@pytest.fixture(scope="module")
def needs(tmp_path_factory):
    """SASRec and stage 1, by the names that stage 2 knows."""
    folder = tmp_path_factory.mktemp("needs")
    config = {"epochs": 2, "hidden_size": 16, "inner_size": 32}
    fit("sasrec", folder / "sasrec", config, loss="ce")
    inputs = {"sasrec": folder / "sasrec" / "model"}
    fit("a_llmrec_align", folder / "align", FAST, inputs=inputs)
    return {**inputs, "align": folder / "align" / "model"}


def dull_losses(user, item, text, autoencoders, weights):
    """Row by row and number by number, as the equations are written."""
    of_item, of_text = autoencoders
    rows, width = len(user), item.shape[1]
    match = irec = trec = rec = 0.0
    for row in range(2 * rows):
        e = torch.sigmoid(of_item.into.weight @ item[row] + of_item.into.bias)
        q = torch.sigmoid(of_text.into.weight @ text[row] + of_text.into.bias)
        item_back = of_item.out.weight @ e + of_item.out.bias
        text_back = of_text.out.weight @ q + of_text.out.bias
        match += ((e - q) ** 2).mean() / rows
        irec += ((item_back - item[row]) ** 2).mean() / rows
        trec += ((text_back - text[row]) ** 2).mean() / rows
        score = user[row % rows] @ item_back / (width if weights.rec_score == "mean" else 1)
        wanted = torch.sigmoid(score) if row < rows else 1 - torch.sigmoid(score)
        rec -= torch.log(wanted) / rows
    return {
        "match": match,
        "item": irec,
        "text": trec,
        "rec": rec,
        "total": match + weights.a * irec + weights.b * trec + rec,
    }


@pytest.mark.parametrize("rec_score", ["mean", "dot"])
def test_the_losses_are_the_papers(rec_score):
    torch.manual_seed(0)
    user, item, text = torch.randn(5, 6), torch.randn(10, 6), torch.randn(10, 9)
    pair, weights = (Autoencoder(6, 4), Autoencoder(9, 4)), Weights(0.5, 0.2, rec_score)
    found = alignment(user, item, text, pair, weights)
    for name, value in dull_losses(user, item, text, pair, weights).items():
        torch.testing.assert_close(found[name], value)


def test_a_trained_text_encoder_learns_through_the_reconstruction_not_the_target():
    torch.manual_seed(0)
    text = torch.randn(4, 9, requires_grad=True)
    pair = Autoencoder(6, 4), Autoencoder(9, 4)
    losses = alignment(torch.randn(2, 6), torch.randn(4, 6), text, pair, Weights())
    (got,) = torch.autograd.grad(losses["text"], text)
    back = pair[1](text)[1]
    (wanted,) = torch.autograd.grad(2 * ((back - text.detach()) ** 2).mean(), text)
    torch.testing.assert_close(got, wanted)


def test_negatives_are_seen_and_outside_the_row():
    sequences, seen = TOY.train.sequences, TOY.train.seen
    drawn = np.concatenate([negatives(sequences, seen, np.random.default_rng(s)) for s in range(9)])
    assert set(drawn) == set(np.flatnonzero(seen)), "each seen item comes, no other"
    for row, item in enumerate(drawn):
        assert item not in sequences[row % len(sequences)]
    few, rows = np.array([False, True, True, False]), Ragged.of([[1, 3], [2, 1]])
    with pytest.raises(DataError, match="row 1 holds all of the 2 trained items"):
        negatives(rows, few, np.random.default_rng(0))


def test_the_loss_falls_and_matched_pairs_are_closer_than_random_ones(needs):
    stage = restore(needs["align"], device="cpu")
    joint = stage.joint
    assert np.isfinite(joint.item_NE).all() and np.isfinite(joint.text_NE).all()
    assert not joint.item_NE[0].any() and not joint.text_NE[0].any()
    matched, strange = agreement(joint.item_NE, joint.text_NE, joint.seen_N)
    assert matched > strange + 0.2


def test_stage_one_tells_its_course(tmp_path, needs):
    _, run = fit("a_llmrec_align", tmp_path, FAST, inputs={"sasrec": needs["sasrec"]})
    losses = run.facts["loss_by_epoch"]
    assert len(losses) == 30 and losses[-1] < losses[10] < losses[0]
    assert run.facts["text_encoder"] == "hash:256"
    assert run.facts["parameters_trained"] == 2 * 16 * (16 + 256) + 32 + 16 + 256
    kept = restore(needs["align"], device="cpu").joint
    again = restore(tmp_path / "model", device="cpu").joint
    assert np.array_equal(kept.item_NE, again.item_NE), "the same seed, the same vectors"


def test_a_resumed_stage_one_equals_the_uninterrupted_one(tmp_path, needs):
    inputs, config = {"sasrec": needs["sasrec"]}, {"epochs": 4}
    whole, run = fit("a_llmrec_align", tmp_path / "whole", config, inputs=inputs)
    halves = tmp_path / "halves"
    with pytest.raises(Stop):
        fit("a_llmrec_align", halves, config, inputs=inputs, progress=stop_at(2))
    resumed, second = fit("a_llmrec_align", halves, config, inputs=inputs)
    assert np.array_equal(whole.joint.item_NE, resumed.joint.item_NE)
    assert np.array_equal(whole.joint.text_NE, resumed.joint.text_NE)
    assert run.facts["loss_by_epoch"] == second.facts["loss_by_epoch"]


def test_a_fine_tuned_text_encoder(tmp_path):
    try:
        encoder = load_encoder("minilm")
    except Unavailable as reason:
        pytest.skip(str(reason))
    few = TOY.train.take(np.arange(8))
    torch.manual_seed(0)
    item_ND = torch.randn(41, 6).numpy()
    settings = {"latent": 8, "trains": True, "cache": tmp_path}
    aligner = Aligner(item_ND, TOY.train.catalogue.titles, encoder, **settings)
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    rows = Rows(torch.randn(8, 6), few.sequences, TOY.train.seen)
    run = Run(seed=0, device="cpu", folder=tmp_path)
    train(aligner, rows, Weights(), Schedule(epochs=1, batch=4), run)
    moved = [name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) > len(before) / 2
    one, two = aligner.joint()[1], aligner.joint()[1]
    assert torch.equal(one, two), "no dropout in the final vectors"


def test_what_cannot_be_trained_is_refused(tmp_path, needs):
    config = {"text_trainable": True}
    with pytest.raises(ConfigError, match="'hash' has nothing to train"):
        fit("a_llmrec_align", tmp_path, config, inputs={"sasrec": needs["sasrec"]})
    config = {"text_encoder": "nowhere"}
    with pytest.raises(Unavailable, match="text_encoder is 'nowhere'"):
        fit("a_llmrec_align", tmp_path, config, inputs={"sasrec": needs["sasrec"]})


def test_where_a_joint_vector_comes_from():
    seen, texts = np.array([0, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    item, text = np.full((4, 2), 1, np.float32), np.full((4, 2), 2, np.float32)
    joint = Joint(item, text, seen, texts, np.zeros(2, np.float32), "x")
    assert joint.source("text").tolist() == [NOTHING, ITEM, TEXT, NOTHING]
    assert joint.source("raw").tolist() == [NOTHING, ITEM, ITEM, ITEM]
    assert joint.source("placeholder").tolist() == [NOTHING, ITEM, NOTHING, NOTHING]
    vectors = joint.vectors("text")
    assert vectors.vector_NF[1:3].tolist() == [[1, 1], [2, 2]]
    assert vectors.known_N.tolist() == [False, True, True, False]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory, needs):
    folder = tmp_path_factory.mktemp("frozen")
    config = {"llm_tuning": "frozen", "epochs": 3, "valid_rows": 0, "scratch_lr": 1e-2}
    return *fit("a_llmrec", folder, config, inputs=needs, loss="lml"), folder


def test_a_frozen_language_model_learns_through_its_projections_alone(frozen):
    method, run, folder = frozen
    fresh = backbone.load("tiny", seed=run.seed_for("weights")).model.state_dict()
    for name, value in method.lm.model.state_dict().items():
        assert torch.equal(value, fresh[name]), name
    maps = sum(p.numel() for p in method.lm.soft.parameters())
    assert run.facts["parameters_trained"] == maps
    assert run.facts["loss_by_epoch"][-1] < run.facts["loss_by_epoch"][0]
    assert run.facts["items_by_text"] == 1 and run.facts["items_without_vector"] == 0
    saved = (folder / "model" / "weights.safetensors").stat().st_size
    assert saved < 4 * maps + 4096, "nothing of the language model is saved"


def test_slots_of_user_and_items(frozen):
    method, _, _ = frozen
    prompt = method.prompter.prompt([3, UNSEEN, 3])
    assert prompt.slots[prompt.slots > 0].tolist() == [3, UNSEEN, 3]
    assert (prompt.slots < 0).sum() == 1
    text = method.lm.tokenizer.decode(prompt.ids[prompt.slots.argmin() + 1 :][:12])
    assert text.startswith(" stands for this user")
    before = method.lm.tokenizer.decode(prompt.ids[: prompt.slots.argmin()])
    assert before.endswith("### Input:\n"), "the user opens the input section"


def test_the_user_slot_changes_the_lists_scores(frozen):
    method, _, _ = frozen
    before = method.recommend(TOY.queries, 5).score_QK
    with torch.no_grad():
        method.users._table_UF += 3
    changed = method.recommend(TOY.queries, 5).score_QK
    with torch.no_grad():
        method.users._table_UF -= 3
    assert np.abs(changed - before).max() > 1e-4


def test_a_user_of_unseen_items_gets_the_mean_vector(frozen):
    method, _, _ = frozen
    history = Ragged.of([[UNSEEN], [UNSEEN, 3]])
    queries = Queries(TOY.train.catalogue, np.arange(2), history, np.zeros(2, np.int64))
    ranking = method.recommend(queries, 5)
    assert ranking.facts["users_with_mean_vector"] == 1
    table = method.users.table(torch.device("cpu"))
    mean_D = method.sasrec.user_vectors(TOY.train.history).mean(0)
    np.testing.assert_allclose(table[method.users.number([UNSEEN])], mean_D, atol=1e-6)
    alone = method.sasrec.user_vectors(Ragged.of([[3]]))[0]
    np.testing.assert_allclose(table[method.users.number([UNSEEN, 3])], alone, atol=1e-6)


def test_sasrec_reads_what_a_short_prompt_does_not_show(tmp_path, needs):
    config = {"history": 1, "epochs": 1, "valid_rows": 2}
    method, _ = fit("a_llmrec", tmp_path, config, inputs=needs, loss="lml")
    read = {tuple(history) for history in TOY.train.history}
    assert read <= set(method.users._number), "users of training rows, whole"
    back = restore(tmp_path / "model", device="cpu")
    assert back.config.history == method.config.history == 1
    history = Ragged.of([[5, 3], [7, 3]])
    queries = Queries(TOY.train.catalogue, np.arange(2), history, np.zeros(2, np.int64))
    one, two = (m.recommend(queries, 5).score_QK for m in (method, back))
    np.testing.assert_allclose(one, two, rtol=1e-5)
    assert (one[0] != one[1]).any(), "one item shown, the same for both, but two users"
    prompt = back.prompter.prompt([5, 3])
    assert prompt.slots[prompt.slots > 0].tolist() == [3]


def test_a_loaded_model_recommends_the_same(frozen):
    method, _, folder = frozen
    back = restore(folder / "model", device="cpu")
    lists = (m.recommend(TOY.queries, 5) for m in (method, back))
    one, two = lists
    assert np.array_equal(one.item_QK, two.item_QK)
    np.testing.assert_allclose(one.score_QK, two.score_QK, rtol=1e-5)


def test_without_a_user_slot(tmp_path, needs):
    config = {"user_slot": False, "epochs": 1, "valid_rows": 0}
    method, _ = fit("a_llmrec", tmp_path, config, inputs=needs, loss="lml")
    assert method.prompter.prompt([3, 1]).slots.min() == 0
    assert method.lm.soft.user is None


def test_a_stage_one_of_another_sasrec_is_refused(tmp_path, needs):
    config = {"epochs": 1, "hidden_size": 16, "inner_size": 32}
    fit("sasrec", tmp_path / "other", config, loss="ce")
    inputs = {**needs, "sasrec": tmp_path / "other" / "model"}
    with pytest.raises(ArtefactError, match="made with another sasrec"):
        fit("a_llmrec", tmp_path, inputs=inputs, loss="lml")


def test_every_cell_of_a_dataset_asks_for_the_same_stage_one():
    asked = []
    for loss, decoder, llm in (("lml", "beam", "tiny"), ("msl_ats", "exact", "smollm2-135m")):
        config = ALLMRec.complete(configure(ALLMRec, {}), loss=loss, decoder=decoder)
        asked.append(ALLMRec.needs(config, loss=loss, backbone=llm))
    assert asked[0] == asked[1]
    align = asked[0]["align"]
    stage = Align.complete(configure(Align, align.config), loss=None, decoder=None)
    assert Align.needs(stage, loss=None, backbone=None)["sasrec"] == asked[0]["sasrec"]
    own = ALLMRec.complete(
        configure(ALLMRec, {"align": {"text_encoder": "backbone"}}), loss="lml", decoder="beam"
    )
    assert ALLMRec.needs(own, loss="lml", backbone="tiny")["align"].backbone == "tiny"


def test_titles_are_quoted_on_demand():
    catalogue = Catalogue(("", "Dune", " "), "book")
    assert texts(catalogue) == ["", "Dune", "Item 2"]
    assert texts(catalogue, quoted=True) == ["", '"Dune"', '"Item 2"']


def test_the_config_of_stage_one_is_written_out():
    given = {
        "llm_tuning": "frozen",
        "sasrec_loss": "bce",
        "sasrec": {"hidden_size": 50, "n_heads": 1},
        "align": {"text_trainable": True, "shuffle": False},
    }
    config = ALLMRec.complete(configure(ALLMRec, given), loss="lml", decoder="beam")
    assert config.lora_r == 0
    assert (config.align["epochs"], config.align["batch"]) == (10, 32)
    assert config.align["text_trainable"] and not config.align["shuffle"]
    assert config.align["sasrec"] == config.sasrec and config.align["sasrec_loss"] == "bce"
    assert ALLMRec.complete(config, loss="lml", decoder="beam") == config
    plain = ALLMRec.complete(configure(ALLMRec, {}), loss="lml", decoder="beam")
    assert plain.lora_r == 8 and plain.align["shuffle"] and not plain.align["text_trainable"]
    with pytest.raises(ConfigError, match="llm_tuning is 'all'; allowed: one of"):
        configure(ALLMRec, {"llm_tuning": "all"})
    with pytest.raises(ConfigError, match="there is no key 'latten'"):
        ALLMRec.complete(configure(ALLMRec, {"align": {"latten": 3}}), loss="lml", decoder="beam")
