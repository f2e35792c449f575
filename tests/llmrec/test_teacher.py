"""Teacher export: rankings from what a model writes, resumable row by row."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bench.cell import Run, Size
from bench.conformance import toy_data
from bench.method import configure, keep, restore
from bench.registry import methods
from llmrec.decode.title_embeddings import embed_texts
from llmrec.dllm2rec import _speaking
from llmrec.dllm2rec import _teacher_files as files
from llmrec.dllm2rec.teacher import beam_distance
from llmrec.llm_cf import _jsonl
from llmrec.lm import backbone, smollm2
from llmrec.trie import for_titles

CONFIG = {"rows": 10, "k": 8, "beams": 1, "max_new_tokens": 6, "chunk": 4}


@pytest.fixture(scope="module")
def bigrec(tmp_path_factory):
    """An untuned tiny model, kept as a cell would keep it."""
    folder = tmp_path_factory.mktemp("bigrec")
    fit_bigrec(folder, toy_data())
    return folder / "kept"


def fit_bigrec(folder, toy, *, loss="zero_shot", backbone="tiny", **config):
    folder.mkdir(exist_ok=True)
    kind = methods.get("bigrec")
    config = kind.complete(configure(kind, config), loss=loss, decoder="beam")
    method = kind(config, loss=loss, decoder="beam", backbone=backbone)
    method.fit(toy.train, toy.valid, Run(seed=1, device="cpu", folder=folder))
    keep(method, folder / "kept")


def stage(**config):
    kind = methods.get("teacher")
    return kind(configure(kind, {**CONFIG, **config}), backbone="tiny")


def export(bigrec, folder, method, *, toy=None, **run):
    folder.mkdir(exist_ok=True)
    run = Run(seed=1, device="cpu", folder=folder, inputs={"teacher": bigrec}, **run)
    toy = toy or toy_data()
    method.fit(toy.train, toy.valid, run)
    keep(method, folder / "kept")
    return files.read(folder / "kept", toy.train), run


def test_nearest_titles_come_in_order(bigrec, tmp_path, monkeypatch):
    """Where the model writes a title of the catalogue, that item is at distance 0 and comes first."""
    toy = toy_data()
    said = iter([toy.train.catalogue.titles[i] for i in (3, 4, 7, 1, 2, 30)] + ["", "other"] * 2)

    def speak(speaker, queries, **options):
        return [
            {"text": next(said), "ids": [], "logp": -1.0, "tokens": 5} for _ in range(len(queries))
        ]

    monkeypatch.setattr(_speaking, "written", speak)
    teacher, run = export(bigrec, tmp_path, stage())
    assert teacher.item_TK.shape == (10, 8)
    assert teacher.item_TK[:6, 0].tolist()[:1] == [3]
    assert (teacher.distance_TK[:6, 0] == 0).all()
    assert (np.diff(teacher.distance_TK[:6], axis=1) >= 0).all()
    silent = [6, 8]
    assert not teacher.item_TK[silent].any() and np.isnan(teacher.target_distance_T[silent]).all()
    assert (teacher.distance_TK[7] > 0).all() and run.facts["rows_without_text"] == 2


def awkward():
    """Toy rows with titles that fall into other tokens without their quotes, and one without a title."""
    toy = toy_data()
    titles = list(toy.train.catalogue.titles)
    titles[3], titles[5], titles[7], titles[9] = "Who Killed 'Tom Jones'?", "", "Books />", "\u9f98"
    catalogue = replace(toy.train.catalogue, titles=tuple(titles))
    queries = replace(toy.valid.queries, catalogue=catalogue)
    valid = replace(toy.valid, queries=queries)
    return SimpleNamespace(train=replace(toy.train, catalogue=catalogue), valid=valid)


@pytest.mark.skipif(not smollm2.is_here(), reason="needs the embedded tokenizer")
def test_a_model_with_a_compact_vocabulary_teaches(tmp_path, monkeypatch):
    """What it writes, and some titles, it cannot read again: their own tokens stand for them."""
    toy, folder = awkward(), tmp_path / "bigrec"
    fit_bigrec(folder, toy, backbone="scratch", hidden=16, layers=1, feed_forward=16)

    def speak(speaker, queries, **options):
        trie, lines = for_titles(toy.train.catalogue.titles, speaker.lm.tokenizer), []
        for item in [3, 7, 1, 2, 9] * len(queries):
            ids = trie.answer[trie.leaf_of_item_N[item]].tolist()
            if item == 9:
                ids = ids[:2]  # a letter cut in half is text that nothing in the vocabulary spells
                with pytest.raises(ValueError, match="compact vocabulary"):
                    speaker.lm.tokenizer(speaker.lm.tokenizer.decode(ids))
            lines.append(_speaking._heard(speaker.lm, 5, np.array(ids), trie.eos))
        return lines[: len(queries)]

    monkeypatch.setattr(_speaking, "written", speak)
    teacher, _ = export(folder / "kept", tmp_path / "out", stage(chunk=10), toy=toy)
    assert teacher.item_TK[:4, 0].tolist() == [3, 7, 1, 2]
    assert (teacher.distance_TK[:4, 0] == 0).all() and (teacher.distance_TK[4] > 0).all()
    assert np.isfinite(teacher.distance_TK).all() and not teacher.point_ND[5].any()


def test_a_tuned_model_speaks_and_its_base_embeds(tmp_path):
    """With adapters: the texts are the tuned model's, the points those of the weights below."""
    toy, base = toy_data(), backbone.load("tiny", seed=1)
    for part in (base.causal, base.tokenizer):
        part.save_pretrained(tmp_path / "base")
    config = {"epochs": 1, "lr": 0.1, "batch": 32, "valid_rows": 0, "dtype": "float32"}
    fit_bigrec(tmp_path / "llm", toy, loss="lml", backbone=str(tmp_path / "base"), **config)
    teacher, _ = export(tmp_path / "llm" / "kept", tmp_path / "out", stage())
    titles = toy.train.catalogue.titles[1:]
    np.testing.assert_allclose(teacher.point_ND[1:], embed_texts(base, titles), atol=1e-4)
    tuned = restore(tmp_path / "llm" / "kept", device="cpu")
    assert any(name.endswith("lora_B.default.weight") for name, _ in tuned.lm.named_parameters())
    fit_bigrec(tmp_path / "plain", toy, backbone=str(tmp_path / "base"))
    untuned, _ = export(tmp_path / "plain" / "kept", tmp_path / "out2", stage())
    said = [(tmp_path / out / "kept" / "gen_text.jsonl").read_text() for out in ("out", "out2")]
    assert said[0] != said[1] and teacher.meta["weights"] != untuned.meta["weights"]


def test_an_answers_tokens_end_with_its_first_line():
    class Words:
        words = ('"', "\n", " ", "A", " title", "more")

        def decode(self, ids):
            return "".join(self.words[at] for at in ids)

    for ids, bare in (
        ([1, 0, 3, 4, 0, 1, 5], [3, 4]),
        ([3, 0, 4], [3, 0, 4]),
        ([0, 2, 0], []),
        ([], []),
    ):
        assert _speaking.bare_tokens(Words(), ids) == bare


def test_equal_titles_go_to_the_more_frequent_item(bigrec, tmp_path, monkeypatch):
    toy = toy_data()  # items 4 and 9 share a title
    count = toy.train.target_count

    def speak(speaker, queries, **options):
        title = toy.train.catalogue.titles[4]
        return [{"text": title, "ids": [], "logp": 0.0, "tokens": 1} for _ in range(len(queries))]

    monkeypatch.setattr(_speaking, "written", speak)
    teacher, _ = export(bigrec, tmp_path, stage())
    first = sorted((4, 9), key=lambda item: (-count[item], item))
    assert count[4] != count[9] and teacher.item_TK[0, :2].tolist() == first


def test_an_interrupted_export_goes_on(bigrec, tmp_path):
    whole, _ = export(bigrec, tmp_path / "whole", stage())
    calls = []

    def stop(done, total, **numbers):
        calls.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(bigrec, tmp_path / "cut", stage(), progress=stop)
    (path,) = (tmp_path / "cut").glob("gen-*.jsonl")
    assert calls == [4] and len(_jsonl.read(path)) == 4
    with path.open("a") as file:
        file.write('{"row": 1, "te')  # the power went
    again, run = export(bigrec, tmp_path / "cut", stage())
    assert run.facts["rows_made_now"] == 6 and run.facts["rows"] == 10
    size = Size(train_rows=6, test_rows=0, n_items=40)
    predicted = methods.get("teacher").estimate_seconds(stage().config, size)
    assert run.facts["predicted_seconds"] == pytest.approx(predicted, abs=0.06)
    np.testing.assert_array_equal(whole.item_TK, again.item_TK)
    np.testing.assert_allclose(whole.distance_TK, again.distance_TK, atol=1e-5)


def test_beam_lists_carry_probabilities(bigrec, tmp_path):
    teacher, run = export(bigrec, tmp_path, stage(rank="beam", k=20))
    assert teacher.item_TK.shape == (10, 10)  # as many as beams
    shares = np.exp(-teacher.distance_TK).sum(1)
    np.testing.assert_allclose(shares, 1, rtol=1e-5)
    assert (np.diff(teacher.distance_TK, axis=1) >= -1e-6).all()
    assert np.isnan(teacher.target_distance_T).all() and run.facts["tokens"] > 10 * 20
    assert (teacher.meta["method"], teacher.meta["loss"]) == ("bigrec", "zero_shot")
    lines = [json.loads(x) for x in (tmp_path / "kept" / "gen_text.jsonl").read_text().splitlines()]
    titles = toy_data().train.catalogue.titles
    assert [line["text"] for line in lines] == [titles[i] for i in teacher.item_TK[:, 0]]
    assert {line["logp"] for line in lines} == {None}  # a beam's score is no log-probability


def test_rows_are_not_the_first_of_the_models_own_sample(bigrec, tmp_path):
    toy = toy_data()
    run = Run(seed=1, device="cpu", folder=tmp_path)
    mine = stage()._rows(toy.train, run)
    theirs = np.sort(np.random.RandomState(42).choice(len(toy.train), 10, replace=False))
    assert len(mine) == 10 and mine.tolist() != theirs.tolist()
    assert stage(rows=None)._rows(toy.train, run).tolist() == list(range(len(toy.train)))


def test_beam_distance_by_hand():
    found = beam_distance([0.0, np.log(1 / 3)], 1.0)
    np.testing.assert_allclose(np.exp(-found), [0.75, 0.25])
    np.testing.assert_allclose(np.exp(-beam_distance([0.0, -2.0], 2.0))[1], 1 / (1 + np.e))


def test_it_never_ranks():
    with pytest.raises(NotImplementedError, match="never ranks"):
        stage().recommend(toy_data().queries, 5)


@pytest.mark.parametrize(
    ("text", "line"),
    [('"A title"\nmore', "A title"), ("", ""), ('  "" \n', ""), (' B "quoted"', 'B "quoted')],
)
def test_first_line(text, line):
    assert _speaking.first_line(text) == line


def test_estimate_grows_with_rows_and_not_beyond_them():
    kind = methods.get("teacher")

    def seconds(rows, backbone=None):
        config = configure(kind, {"rows": rows})
        size = Size(train_rows=1000, test_rows=0, n_items=100, backbone=backbone)
        return kind.estimate_seconds(config, size)

    assert seconds(100) < seconds(1000) == seconds(None) == seconds(5000)
    assert seconds(1000, "scratch") < 120 < 2900 < seconds(1000)  # .09 and 2.9 seconds a row
