"""CoT data set: the draw, the prompt, the score, the writer and its cache."""

import json

import numpy as np
import pytest
import torch

from bench.cell import Run, Size
from bench.conformance import toy_data
from bench.errors import ArtefactError, ConfigError, Unavailable
from bench.method import configure, keep
from bench.registry import methods
from llmrec.llm_cf import _cot, _jsonl
from llmrec.llm_cf._cot_cache import Cache, CoTCacheMissing, weights_of
from llmrec.llm_cf._cot_writer import Writer, Writing
from llmrec.lm import backbone
from llmrec.lm.text_encoder import encode_text
from speed.harms import HARMS


def embed(texts):
    return encode_text(texts, encoder="hash", normalised=True)


def draw(**options):
    values = {"share": 0.1, "most": None, "negatives": "random", "seed": 3, **options}
    return _cot.sample_entries(toy_data().train, **values)


def test_each_row_once_as_chosen_and_once_as_not():
    train, entries = toy_data().train, draw()
    assert len(entries) == 32 and len(set(entries.row_M)) == 16
    for row, item, label in zip(entries.row_M, entries.item_M, entries.label_M, strict=True):
        if label:
            assert item == train.target_W[row]
        else:
            assert item not in train.sequences[row] and train.seen[item]


@pytest.mark.parametrize("negatives", ["random", "popularity"])
def test_a_larger_draw_keeps_the_smaller_one(negatives):
    small, large = (draw(share=s, negatives=negatives) for s in (0.05, 0.5))
    assert large.ids[: len(small)] == small.ids
    np.testing.assert_array_equal(large.item_M[: len(small)], small.item_M)
    assert draw(most=3).ids == small.ids[:6]
    assert draw(seed=4).ids != draw(seed=3).ids


def test_the_question_tells_the_outcome_and_keeps_the_order():
    train = toy_data().train
    row = int(np.flatnonzero(train.history.lengths > 2)[0])
    asked = _cot.question(train, row, 7, 0)
    titles = [train.catalogue.titles[i] for i in train.history[row]]
    places = [asked.index(f"- {title}") for title in titles]
    assert places == sorted(places)
    assert f"did not choose {train.catalogue.titles[7]}" in asked
    assert f"chose {train.catalogue.titles[7]}" in _cot.question(train, row, 7, 1)
    assert f"- {titles[0]}\n" not in _cot.question(train, row, 7, 0, dropped=1)


def test_template_names_every_title():
    train = toy_data().train
    text = _cot.template(train, 5, 7, 1)
    assert all(train.catalogue.titles[i] in text for i in (*train.history[5], 7))
    assert "goes well" in text and "does not go well" in _cot.template(train, 5, 7, 0)


def test_worth_prefers_what_speaks_to_the_point_and_rejects_leaks(monkeypatch):
    monkeypatch.setattr(_cot, "has_sentiment", lambda: False)
    prompt, said = "Which books does this person like?", "The person chose The Road of Salt."
    texts = [
        "This person likes books about the road, and The Road of Salt goes well with their taste.",
        "zzz qqq xxx www vvv uuu kkk",
        "short",
        "<|im_start|>user This person likes The Road of Salt and chose it.",
    ]
    found = _cot.worth(texts, [prompt] * 4, [said] * 4, embed)
    assert found[0] > found[1] > -1 and found[2] == found[3] == 0
    by_hand = (
        (embed(texts[:1]) @ embed(_cot.ASPECTS).T).mean()
        + (embed(texts[:1]) @ embed([prompt]).T).item()
        + (embed(texts[:1]) @ embed([said]).T).item()
    ) / 3
    assert found[0] == pytest.approx(by_hand, rel=1e-5)


def test_writer_drops_the_oldest_items_of_a_long_prompt():
    train, lm = toy_data().train, backbone.load("tiny")
    row = int(train.history.lengths.argmax())
    entries = _cot.Entries(np.array([row]), np.array([7]), np.array([1]))
    text, ids = Writer(lm, Writing()).prompt(train, entries, 0)
    cut_text, cut = Writer(lm, Writing(cutoff=len(ids) - 1)).prompt(train, entries, 0)
    first, last = (train.catalogue.titles[train.history[row][at]] for at in (0, -1))
    assert f"- {first}\n" in text and len(cut) < len(ids)
    assert cut_text.count("\n- ") < text.count("\n- ") and f"- {last}\n" in cut_text
    assert "Start your reasoning" in cut_text


def test_greedy_does_not_depend_on_the_batch_and_samples_on_the_seed():
    lm, rule = backbone.load("tiny", seed=1), Writing(new_tokens=12)
    ids = lm.tokenizer(["The Road of Salt", "Amber"], add_special_tokens=False)["input_ids"]
    both = Writer(lm, rule).write(ids, seed=0, sample=False)
    assert [len(texts) for texts in both] == [1, 1]
    assert Writer(lm, rule).write(ids[1:], seed=9, sample=False) == both[1:]
    many = Writer(lm, Writing(new_tokens=12, candidates=3, temperature=2.0))
    one, two, again = (many.write(ids, seed=s, sample=False) for s in (1, 2, 1))
    assert [len(texts) for texts in one] == [3, 3] and one == again and one != two
    assert many.read == 3 * sum(map(len, ids)) and many.written > 0


def stage(tmp_path, **config):
    kind = methods.get("cot")
    values = {"text_encoder": "hash", "cache_folder": str(tmp_path / "cache"), "new_tokens": 12}
    return kind(configure(kind, {**values, "batch": 4, **config}), backbone="tiny")


def make(method, folder, **run):
    folder.mkdir(exist_ok=True)
    run = Run(seed=1, device="cpu", folder=folder, **run)
    toy = toy_data()
    method.fit(toy.train, toy.valid, run)
    return run


def test_writing_goes_on_where_it_stopped_and_is_then_read_from_the_cache(tmp_path):
    def stop(done, total, **numbers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(stage(tmp_path, rows=4), tmp_path / "a", progress=stop)
    (path,) = (tmp_path / "cache").rglob("*.jsonl")
    assert len(_jsonl.read(path)) == 1 + 4  # the header and one batch
    with pytest.raises(CoTCacheMissing, match=r"holds 4 of 8 .*local.*template"):
        make(stage(tmp_path, rows=4, source="cache"), tmp_path / "b")
    method = stage(tmp_path, rows=4)
    run = make(method, tmp_path / "a")
    assert run.facts["written_now"] == 4 and run.facts["entries"] == 8
    more = stage(tmp_path, rows=4, source="cache")
    make(more, tmp_path / "b")
    assert more.texts == method.texts
    run = make(stage(tmp_path, rows=6), tmp_path / "c")
    assert run.facts["written_now"] == 4


def test_what_is_predicted_is_what_is_written_now_and_how(tmp_path):
    kind = methods.get("cot")

    def predicted(folder, **values):
        made = make(stage(tmp_path, rows=2, **values), tmp_path / folder)
        return made.facts["predicted_seconds"]

    first, again = predicted("a"), predicted("b")
    three = predicted("c", candidates=3, new_tokens=256)
    size = Size(train_rows=160, test_rows=0, n_items=40)
    plan = kind.estimate_seconds(stage(tmp_path, rows=2).config, size)
    assert again < first == pytest.approx(plan, abs=0.06) and three > first + 4 * 3 * 256 * 0.01


def test_lines_end_at_line_feeds_only(tmp_path):
    lines = [{"text": "a\u2028b\u2029c\x85d\x0be\r\n"}, {"text": "f"}]
    _jsonl.append(tmp_path / "a.jsonl", lines)
    assert _jsonl.read(tmp_path / "a.jsonl") == lines


def test_a_damaged_line_counts_as_not_written(tmp_path, caplog):
    path, lines = tmp_path / "a.jsonl", [{"row": n, "text": "red lorry"} for n in range(3)]
    _jsonl.append(path, lines)
    HARMS["flip"](path)
    assert _jsonl.read(path) == [lines[0], lines[2]]
    assert caplog.messages == [f"{path}: 1 damaged lines; made again"]
    _jsonl.append(path, [lines[1]])
    assert _jsonl.read(path) == [lines[0], lines[2], lines[1]]


def test_a_cache_whose_header_is_damaged_gets_a_new_one(tmp_path):
    cache = Cache(tmp_path, "t" * 64, {"seed": 1})
    cache.add([{"cot_id": "a", "text": "one"}], planned=1)
    header, line = cache.path.read_bytes().splitlines(keepends=True)
    cache.path.write_bytes(header.replace(b"planned", b"qlanned") + line)
    assert cache.lines() == {"a": {"cot_id": "a", "text": "one"}}
    cache.add([{"cot_id": "b", "text": "two"}], planned=2)
    assert cache.lines().keys() == {"a", "b"}
    assert sum("for" in line for line in _jsonl.read(cache.path)) == 1


def test_cache_lines_hold_what_was_asked(tmp_path):
    make(stage(tmp_path, rows=2), tmp_path / "a")
    (path,) = (tmp_path / "cache").rglob("*.jsonl")
    header, *lines = _jsonl.read(path)
    train = toy_data().train
    assert header["planned"] == 4 and header["for"]["model"] == "tiny"
    for line in lines:
        assert line["hist"] == train.history[line["row"]].tolist()
        assert line["user"] == train.user_W[line["row"]] and len(line["prompt_sha"]) == 16
        assert len(line["texts"]) == len(line["scores"]) == 1


def test_the_cache_is_read_without_the_model(tmp_path, monkeypatch):
    make(stage(tmp_path, rows=2), tmp_path / "a")

    def load(*args, **options):
        raise AssertionError("nothing has to be loaded")

    monkeypatch.setattr(backbone, "load", load)
    read = stage(tmp_path, rows=2, source="cache")
    make(read, tmp_path / "b")
    assert read.meta["model"] == "tiny" and read.texts
    (path,) = (tmp_path / "cache").rglob("*.jsonl")
    header, *lines = _jsonl.read(path)
    header["for"]["weights"] = "others"
    _jsonl.append(path.with_name("twin.jsonl"), [header, *lines])
    with pytest.raises(ArtefactError, match="different weights"):
        make(stage(tmp_path, rows=2, source="cache"), tmp_path / "c")


def test_weights_have_one_name_in_every_precision(tmp_path):
    lm = backbone.load("tiny", seed=1)
    lm.causal.save_pretrained(tmp_path / "m")
    lm.tokenizer.save_pretrained(tmp_path / "m")
    kept = [
        weights_of(backbone.load(str(tmp_path / "m"), dtype=dtype), 0)
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert kept[0] == kept[1] and weights_of(lm, 5) == "seed 5"


def test_another_question_has_another_file(tmp_path):
    make(stage(tmp_path, rows=2), tmp_path / "a")
    make(stage(tmp_path, rows=2, new_tokens=6), tmp_path / "b")
    assert len(list((tmp_path / "cache").rglob("*.jsonl"))) == 2
    cache = Cache(tmp_path, "a" * 64, {"x": 1})
    cache.add([{"cot_id": "1:1", "text": "t"}], planned=1)
    other = Cache(tmp_path, "a" * 64, {"x": 2})
    other.path.write_bytes(cache.path.read_bytes())
    with pytest.raises(ArtefactError, match="other questions"):
        other.lines()


def test_useless_texts_are_tried_again_and_then_dropped(tmp_path, monkeypatch):
    tried = []

    def write(self, prompts, *, seed, sample):
        tried.append((len(prompts), sample))
        good = "This person likes roads, so the book fits."
        return [[good if sample and at == 0 else "no"] for at in range(len(prompts))]

    monkeypatch.setattr(Writer, "write", write)
    method = stage(tmp_path, rows=2)
    run = make(method, tmp_path / "a")
    assert tried == [(4, False), (4, True)]
    assert run.facts["entries_dropped"] == 3 and len(method.entries) == len(method.texts) == 1
    assert method.text_MD.shape == (1, 256)


@pytest.mark.parametrize(("source", "width"), [("template", 256), ("none", 0)])
def test_sources_without_a_model(tmp_path, source, width):
    method = stage(tmp_path, source=source)
    make(method, tmp_path / "a")
    keep(method, tmp_path / "kept")
    assert np.load(tmp_path / "kept/cot_emb.npy").shape == (32, width)
    assert json.loads((tmp_path / "kept/meta.json").read_text())["source"] == source
    assert not (tmp_path / "cache").exists()
    with pytest.raises(NotImplementedError):
        method.recommend(toy_data().queries, 5)


@pytest.mark.parametrize(
    "wrong", [{"source": "net"}, {"sample": 0}, {"rows": 0}, {"candidates": 0}]
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ConfigError):
        configure(methods.get("cot"), wrong)


def test_an_untrained_model_writes_no_rationales(tmp_path):
    kind = methods.get("cot")
    method = kind(configure(kind, {"text_encoder": "hash"}), backbone="scratch")
    with pytest.raises(Unavailable, match=r"random weights.*template"):
        make(method, tmp_path / "a")
