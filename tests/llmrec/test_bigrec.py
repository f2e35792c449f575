import json

import numpy as np
import pytest
import torch
from test_backbone import families, folder_of

from bench.cell import Run
from bench.errors import ArtefactError, ConfigError, DataError
from bench.evaluation import metrics
from bench.evaluation.checks import check_ranking
from bench.method import configure, keep, restore
from bench.types import Catalogue, Exam, Queries, Ragged, Windows
from llmrec.generative.bigrec import BIGRec
from llmrec.lm import smollm2
from llmrec.lm.scratch import tiny_tokenizer

COLOURS = ("red", "blue", "green", "small", "old", "tall")
TITLES = ("", *(f"The {c} {t}" for c in COLOURS for t in ("lorry", "kite", "ball", "doll", "drum")))
SHOP = Catalogue(TITLES, "toy")
N = len(TITLES) - 1
FAST = {
    "epochs": 20,
    "batch": 6,
    "scratch_lr": 7e-3,
    "valid_rows": 30,
    "history": 1,
}


def walk(start, length):
    return [(start - 1 + step) % N + 1 for step in range(length)]


def windows(catalogue=SHOP):
    """After item i comes item i + 1, round and round."""
    rows = [walk(start, 2 + start % 3) for start in range(1, N + 1)] * 2
    return Windows(
        catalogue,
        np.arange(len(rows)),
        Ragged.of([row[:-1] for row in rows]),
        np.array([row[-1] for row in rows], np.int32),
        np.arange(len(rows)),
    )


def exam(catalogue=SHOP):
    rows = [walk(start, 4) for start in range(1, N + 1)]
    history = Ragged.of([row[:-1] for row in rows])
    queries = Queries(catalogue, np.arange(N), history, np.zeros(N, np.int64))
    return Exam(queries, np.array([row[-1] for row in rows], np.int32))


def method(loss="msl", decoder="beam", **config):
    values = BIGRec.complete(configure(BIGRec, {**FAST, **config}), loss=loss, decoder=decoder)
    return BIGRec(values, loss=loss, decoder=decoder, backbone="tiny")


def fitted(folder, train=None, **options):
    model = method(**options)
    run = Run(seed=1, device="cpu", folder=folder)
    model.fit(train or windows(), exam(), run)
    return model, run


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("fit"))


def test_it_learns_who_follows_whom(learnt):
    model, run = learnt
    losses = run.facts["loss_by_epoch"]
    assert losses[-1] < 0.5 * losses[0]
    ranking = model.recommend(exam().queries, 5)
    check_ranking(ranking, exam().queries, 5, N)
    found = metrics.evaluate(ranking, exam(), train_count=windows().target_count, names="title")
    assert found["hit@1"] > 0.5
    best = run.facts["best_epoch"]
    assert run.facts["valid_ndcg@5_by_epoch"][best - 1] == max(run.facts["valid_ndcg@5_by_epoch"])


def test_it_comes_back_from_disk_and_keeps_to_its_catalogue(learnt, tmp_path):
    model, _ = learnt
    keep(model, tmp_path)
    back = restore(tmp_path, device="cpu")
    one, two = (m.recommend(exam().queries, 5) for m in (model, back))
    np.testing.assert_array_equal(one.item_QK, two.item_QK)
    other = Catalogue(("", *reversed(TITLES[1:])), "toy")
    with pytest.raises(ArtefactError, match="other titles"):
        restore(tmp_path, device="cpu").recommend(exam(other).queries, 5)
    (tmp_path / "llm.json").unlink()
    with pytest.raises(ArtefactError, match=r"llm\.json"):
        restore(tmp_path, device="cpu")


def test_one_answer_for_items_that_share_a_title(tmp_path):
    titles = list(TITLES)
    titles[9] = titles[4]
    shop = Catalogue(tuple(titles), "toy")
    model, _ = fitted(tmp_path, train=windows(shop), epochs=1, decoder="exact")
    ranking = model.recommend(exam(shop).queries, N)
    assert not (ranking.item_QK == 9).any()
    assert (ranking.item_QK > 0).sum(1).max() <= N - 1


def test_zero_shot_trains_nothing(tmp_path):
    model, run = fitted(tmp_path, loss="zero_shot")
    assert model.lm.trainable() == {} and "loss_by_epoch" not in run.facts
    assert model.recommend(exam().queries, 5).item_QK.shape == (N, 5)


def test_a_title_longer_than_the_room_is_cut_in_prompts_and_answers(tmp_path):
    long = list(TITLES)
    long[7] = "so " * 200
    shop = Catalogue(tuple(long), "toy")
    model, _ = fitted(tmp_path, train=windows(shop), epochs=1, cutoff=256, answer_budget=20)
    ranking = model.recommend(exam(shop).queries, 5)
    assert ranking.failed_Q is None or not ranking.failed_Q.any()
    cut = [row for row in model.examples(windows(shop)) if row.keep is not None]
    assert {row.leaf for row in cut} == {int(model.trie.leaf_of_item_N[7])}
    assert all(len(row.prompt) + row.keep <= 256 for row in cut)


def test_a_prompt_without_room_for_a_title_is_a_miss_and_a_training_row_an_error(tmp_path):
    model, _ = fitted(tmp_path, epochs=1)
    model.prompter.cutoff = model.prompter.shared + 20
    model.prompter.answer_budget = 20
    ranking = model.recommend(exam().queries, 5)
    assert ranking.failed_Q.all() and ranking.facts["prompts_too_long"] == N
    with pytest.raises(DataError, match=r"training row \d+: .*raise cutoff"):
        fitted(tmp_path / "b", epochs=1, cutoff=40)


def test_the_released_switches(tmp_path):
    released = {"infer_extra_space": True, "fit_history": False, "cut_answers": True}
    model, _ = fitted(tmp_path, loss="msl_tau", epochs=1, **released)
    model.recommend(exam().queries, 5)
    seen = model.lm.tokenizer.decode(model.prompter.prompt([1]).ids)
    assert "request.  \n" in seen
    rows = model.examples(windows())
    assert all(row.keep == 512 - len(row.prompt) for row in rows)
    short = model.config.replace(cutoff=len(rows[0].prompt) + 2)
    model.config = short
    cut = model.examples(windows().take(np.array([0])))
    assert [row.keep for row in cut] == [2]


def test_a_model_decodes_in_the_precision_asked_for_with_its_adapters_merged(tmp_path):
    config = families()["llama untied"]
    config.vocab_size = len(tiny_tokenizer(bos=True))
    name = str(folder_of(tmp_path, config))
    values = configure(BIGRec, {**FAST, "epochs": 1, "lr": 1e-2, "inference_dtype": "bfloat16"})
    values = BIGRec.complete(values, loss="lml", decoder="beam")
    model = BIGRec(values, loss="lml", decoder="beam", backbone=name)
    model.fit(windows(), exam(), Run(seed=1, device="cpu", folder=tmp_path))
    trained = {key: value.detach().clone() for key, value in model.lm.learnt().items()}
    assert model.lm.dtype == torch.float32
    keep(model, tmp_path / "kept")
    first = model.recommend(exam().queries, 5)
    assert model.lm.dtype == torch.bfloat16
    assert all(m.merged for m in model.lm.modules() if hasattr(m, "lora_A"))
    for key, value in model.lm.learnt().items():
        torch.testing.assert_close(value.float(), trained[key], rtol=1e-2, atol=1e-3)
    again = model.recommend(exam().queries, 5)
    back = restore(tmp_path / "kept", device="cpu")
    assert back.lm.dtype == torch.float32
    for other in (again, back.recommend(exam().queries, 5)):
        np.testing.assert_array_equal(first.item_QK, other.item_QK)


def test_options_may_be_given_for_several_losses_at_once():
    options = {"msl_ats": {"eta": 0.9}, "lml_tau": {"tau": 3.0}}
    assert method(loss="msl_ats", loss_options=options).config.loss_options["eta"] == 0.9
    assert method(loss="lml_tau", loss_options=options).config.loss_options["tau"] == 3.0
    assert method(loss="lml", loss_options=options).config.loss_options == {}
    plain = method(loss="lml_tau", loss_options={"tau": 3.0}, decoder_options={"beams": 7}).config
    assert plain.loss_options["tau"] == 3.0 and plain.decoder_options["beams"] == 7
    json.dumps(plain.as_dict())


def test_an_option_younger_than_published_rows_is_written_only_where_it_differs():
    assert "loss_norm" not in method(loss="msl").config.loss_options
    by_answer = {"loss_norm": "seq_sum_mean"}
    assert method(loss="lml", loss_options=by_answer).config.loss_options == by_answer


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"dtype": "half"}, "one of auto, float32"),
        ({"quant": 3}, "one of 4, 8 or null"),
        ({"quant": 8, "lora_r": 0}, "by adapters only"),
        ({"hidden": 100, "heads": 3}, "multiple of heads"),
        ({"loss_options": {"sigma": 1}}, "sigma"),
        ({"decoder_options": {"beans": 1}}, "beans"),
    ],
)
def test_bad_config_is_refused(config, said):
    with pytest.raises(ConfigError, match=said):
        method(**config)


@pytest.mark.slow
@pytest.mark.skipif(not smollm2.is_here(), reason="the embedded model is not in the cache")
def test_the_embedded_model_is_tuned_saved_and_restored(tmp_path):
    config = {"epochs": 1, "batch": 8, "valid_rows": 0, "lr": 1e-3}
    values = BIGRec.complete(configure(BIGRec, config), loss="msl", decoder="beam")
    model = BIGRec(values, loss="msl", decoder="beam", backbone="smollm2-135m")
    run = Run(seed=1, device="cpu", folder=tmp_path / "run")
    model.fit(windows().take(np.arange(8)), exam().take(np.arange(2)), run)
    assert run.facts["parameters_trained"] == 460_800
    keep(model, tmp_path / "kept")
    assert (tmp_path / "kept" / "weights.safetensors").stat().st_size < 2_000_000
    few = exam().queries.take(np.arange(3))
    back = restore(tmp_path / "kept", device="cpu").recommend(few, 5)
    np.testing.assert_array_equal(back.item_QK, model.recommend(few, 5).item_QK)
