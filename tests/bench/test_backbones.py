"""A language model that is not there is told by the plan, each time, before anything runs."""

import pytest

from bench.cli import main
from bench.errors import Unavailable
from bench.experiment import backbones
from bench.experiment.backbones import require_backbone
from bench.method import Method
from bench.registry import methods


class Speaks(Method):
    """Knows one model."""

    family = "llm"
    backbones = frozenset({"known"})

    def fit(self, train, valid, run):
        """Nothing to learn."""

    def recommend(self, queries, k):
        """Nothing to say."""


@pytest.fixture(autouse=True)
def looked_up_anew():
    backbones._missing.cache_clear()


def test_known_names_folders_and_files_pass(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    names = ("known", str(tmp_path), str(tmp_path / "model.gguf"))
    assert [require_backbone(Speaks, name, look=True) for name in names] == [None] * 3


@pytest.mark.parametrize("name", ["unknown", "/no/such/folder", "model.gguf", ""])
def test_what_is_no_model_is_told_with_what_would_do(name):
    with pytest.raises(Unavailable, match=r"neither a known name nor a folder.*one of known"):
        require_backbone(Speaks, name, look=False)


def test_the_hub_is_asked_only_about_what_the_user_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    require_backbone(Speaks, "some/model", look=False)
    with pytest.raises(Unavailable, match="not in the hub's cache, and HF_HUB_OFFLINE is set"):
        require_backbone(Speaks, "some/model", look=True)


def test_a_hub_out_of_reach_is_told(monkeypatch):
    def unreachable(*args, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(Unavailable, match=r"the hub cannot be reached \(ConnectionError\)"):
        require_backbone(Speaks, "some/model", look=True)


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_plan_with_a_backbone_that_is_not_there_fails_each_time(time, tmp_path, capsys):
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "run")]
    words = [
        "--scale",
        "embedded",
        "--methods",
        "bigrec",
        "--losses",
        "lml",
        "--backbone",
        "no-such",
    ]
    if time == "second":
        assert main(["run", *words, *where, "--gpus", "none"]) == 1
        capsys.readouterr()
    assert main(["plan", *words, *where]) == 1
    assert "backbone 'no-such' is neither a known name" in capsys.readouterr().out


def test_every_method_with_a_language_model_knows_the_embedded_one():
    pretrained = [name for name in methods if "pretrained" in methods.get(name).tags]
    assert pretrained
    assert all("smollm2-135m" in methods.get(name).backbones for name in pretrained)
