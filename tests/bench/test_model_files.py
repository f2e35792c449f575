"""A model on this machine counts with every byte of its files, and is hashed once."""

import os
import time

import pytest

from bench.results.identity import declared
from bench.results.model_files import model_content


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder with a large checkpoint, and a cache folder of its own."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("bench.disk.digests.LARGE", 1000)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    _weigh(folder, b"a", time.time() - 60)
    model_content.cache_clear()
    yield folder
    model_content.cache_clear()


def _weigh(folder, byte, changed):
    """Write a checkpoint with one byte in the middle that counts, last changed at some time (s)."""
    weights = folder / "model.safetensors"
    weights.write_bytes(b"0" * (3 << 20) + byte + b"0" * (3 << 20))
    os.utime(weights, (changed, changed))


def _content(folder):
    model_content.cache_clear()
    return model_content(str(folder))


def test_a_byte_in_the_middle_of_a_checkpoint_counts(model):
    before = _content(model)
    _weigh(model, b"b", time.time() - 30)
    assert _content(model) != before


def test_a_large_file_is_hashed_once_and_again_when_it_changed(model, tmp_path, monkeypatch):
    before = _content(model)
    (kept,) = (tmp_path / "cache" / "digests").iterdir()
    _weigh(model, b"a", time.time())
    assert _content(model) == before
    assert [kept] == list(kept.parent.iterdir()), "just changed: it may change again unnoticed"
    _weigh(model, b"b", time.time() - 20)
    _content(model)
    assert len(list(kept.parent.iterdir())) == 2
    kept.write_text("cut o")
    _weigh(model, b"a", time.time() - 60)
    assert _content(model) == before, "a damaged note is no answer"
    monkeypatch.setenv("BENCH_CACHE", str(model / "config.json"))
    assert _content(model) == before, "nor is a cache needed"


@pytest.mark.parametrize("method", ["llm_cf", "cot", "a_llmrec_align"])
def test_an_encoder_named_in_a_configuration_counts_with_its_content(model, method):
    def code(**config):
        model_content.cache_clear()
        return declared(method, config=config).contents

    assert code(text_encoder="minilm") == {}, "a name that is no folder has no content"
    first = code(text_encoder=str(model))
    assert set(first) == {"config.text_encoder"}
    _weigh(model, b"b", time.time() - 30)
    assert code(text_encoder=str(model)) != first
    assert set(code(deep={"list": [str(model)]})) == {"config.deep.list.0"}


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\0b"])
def test_whatever_names_no_model_is_only_a_name(name):
    assert model_content(name) == ""
