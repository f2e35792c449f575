"""The table of profiles: every line is meant for something, and what it says is what a cell gets."""

import ast
from pathlib import Path

import pytest

import baselines
import llmrec
from bench.experiment.choice import Choice
from bench.experiment.grid import expand
from bench.experiment.profiles import departures, profiles, settings, with_profile
from bench.experiment.suite import Suite, SuiteRow
from bench.method import configure, losses_of
from bench.registry import decoders, losses, methods

ALL = [(name, line) for name, profile in profiles().items() for line in profile.values]
IDS = [f"{name}-{line.owner}-{line.key}-{at}" for at, (name, line) in enumerate(ALL)]
INSIDE = {"sasrec": "sasrec", "align": "a_llmrec_align", "cot": "cot", "teacher": "teacher"}


def names(given, every):
    return every if given is None else [given] if isinstance(given, str) else list(given)


def axes_of(kind):
    return [
        (loss, d)
        for loss in losses_of(kind) or [None]
        for d in (decoders if kind.decodes else [None])
    ]


def resolved(profile, name, loss, decoder, **given):
    """A method's configuration under a profile, checked, its defaults and options written out."""
    kind = methods.get(name)
    fields = frozenset(kind.Config.model_fields)
    values = with_profile(profile, given, method=name, loss=loss, decoder=decoder, fields=fields)
    config = kind.complete(configure(kind, values), loss=loss, decoder=decoder)
    kind.needs(config, loss=loss, backbone="tiny")
    return config


def look(values, key):
    for part in key.split("."):
        values = values[part] if isinstance(values, dict) else getattr(values, part)
    return list(values) if isinstance(values, tuple) else values


@pytest.mark.parametrize(("profile", "line"), ALL, ids=IDS)
def test_a_line_names_what_exists_and_says_where_its_value_is_from(profile, line):
    assert line.source.strip()
    for given, registry in ((line.method, methods), (line.loss, losses), (line.decoder, decoders)):
        assert all(name in registry for name in names(given, []))
    if line.owner == "axis":
        assert line.key == "decoder" and all(name in decoders for name in line.value)


@pytest.mark.parametrize(("profile", "line"), ALL, ids=IDS)
def test_a_value_differs_from_the_default_or_says_that_it_does_not(profile, line):
    if line.owner == "axis":
        return
    registry = {"method": methods, "loss": losses, "decoder": decoders}[line.owner]
    for name in names(getattr(line, line.owner), []):
        first, _, inner = line.key.partition(".")
        kind, key = (methods.get(INSIDE[first]), inner) if inner else (registry.get(name), first)
        default = configure(kind, {}).as_dict()[key]
        assert (default == line.value) == ("our default too" in line.source), line.key


@pytest.mark.parametrize("profile", list(profiles()))
@pytest.mark.parametrize("name", sorted({n for _, line in ALL for n in names(line.method, [])}))
def test_a_method_takes_what_a_profile_sets(profile, name):
    for loss, decoder in axes_of(methods.get(name)):
        config = resolved(profile, name, loss, decoder)
        homes = {"loss": "loss_options", "decoder": "decoder_options"}
        for line in settings(profile, name, loss, decoder):
            if line.owner != "axis":
                home = getattr(config, homes[line.owner]) if line.owner in homes else config
                assert look(home, line.key) == line.value, line.key


def test_a_later_profile_replaces_single_values_of_its_base():
    def space(profile, loss):
        return resolved(profile, "bigrec", loss, "beam").decoder_options["space"]

    assert space("paper_faithful", "msl_ats") == space("authors_2025b", "lml") == "full"
    assert space("authors_2025b", "msl_ats") == "valid"


def test_a_value_by_hand_beside_a_profile_stays_and_is_told(tmp_path):
    row = SuiteRow(method="dros", losses=["bce"], config={"dropout": 0.3})
    suite = Suite(title="t", datasets=["ml_100k"], seeds=[0], rows=[row])
    (cell,) = expand(suite, Choice(profile="paper_faithful", scale="small")).cells
    assert cell.config["dropout"] == 0.3 and cell.config["tied"] is False
    assert departures(cell) == ("dropout 0.3, not 0.1",)
    assert cell.label == "ml_100k/dros+bce#0" and cell.select_on == "test"
    assert cell.valid_rows is None
    (plain,) = expand(suite, Choice(scale="small")).cells
    assert "tied True, not False" in departures(plain)


@pytest.mark.parametrize("room", [baselines, llmrec], ids=["baselines", "llmrec"])
def test_no_method_asks_for_a_profile(room):
    (root,) = room.__path__
    paths = sorted(Path(root).rglob("*.py"))
    found = [f"{path.name}: {word}" for path in paths for word in words(path) if tells(word)]
    assert paths and found == []


def tells(word):
    return "profile" in word.lower() or "faithful" in word.lower()


def words(path):
    """Names and strings of a file's code; docstrings are no code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
        for field in ("id", "attr", "arg", "name", "value"):
            if isinstance(word := getattr(node, field, None), str):
                yield word
